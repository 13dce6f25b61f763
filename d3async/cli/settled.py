"""What came of looking up unknown rows, in words, for a run folder and a run of the fleet alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from d3async.cli.console import say

if TYPE_CHECKING:
    from d3async.readback import LinkCounts, TaskCounts


def tell_counts(tasks: TaskCounts | None, links: LinkCounts | None) -> None:
    """Say what became of unknown *tasks* and *links*, of each that was looked up."""
    if tasks:
        say(f"  tasks   {tasks.found:,} found · {tasks.absent:,} not there · {tasks.open:,} not proven")
    if links:
        say(f"  links   {links.gone:,} gone · {links.linked:,} still linked · {links.cannot_tell:,} not proven")
