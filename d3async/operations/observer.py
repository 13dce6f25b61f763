"""What an operation says and asks while it goes on: a terminal, a page or an app answers in its own way."""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """Gets the messages of one operation."""

    def message(self, text: str) -> None:
        """One or more whole lines for the user. The text may hold control characters of a job file or an answer."""
        ...
