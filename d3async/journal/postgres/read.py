"""One run of the fleet as it stands at one moment: what `journal.read.JournalReader` is for a run folder."""

from __future__ import annotations
