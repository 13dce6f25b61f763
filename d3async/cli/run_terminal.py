"""A run on a terminal: its plan, its questions, its progress and its last lines."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from d3async.cli.console import Terminal, is_interactive, out, say_all
from d3async.cli.plan_text import plan_lines, question_text
from d3async.cli.progress import chosen
from d3async.cli.result_text import finished_lines
from d3async.operations.observer import SendRows, SendUnknownRows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from d3async.cli.plan import Plan
    from d3async.cli.rundown import RunResult
    from d3async.operations.observer import Progress, Question


class RunTerminal(Terminal):
    """`operations.observer.RunObserver` on stderr. *progress* is the option; *yes* answers what may be answered so."""

    def __init__(self, *, progress: str = "auto", quiet: bool = False, yes: bool = False) -> None:
        super().__init__(quiet=quiet)
        self._progress = progress
        self._yes = yes

    def planned(self, plan: Plan) -> None:
        """See `RunObserver.planned`."""
        first, *others = plan_lines(plan)
        margin = " " * (len(plan.name) + 2)
        self.detail("\n".join([f"{plan.name}: {first}", *(margin + line for line in others)]))

    def request(self, request: Mapping[str, Any]) -> None:
        """See `RunObserver.request`."""
        out(json.dumps(request, ensure_ascii=False))

    def confirm(self, question: Question) -> bool | None:
        """See `RunObserver.confirm`. What may be in D3 already needs more than `--yes`, but for `--retry-unknown`."""
        if self._yes and isinstance(question, SendRows | SendUnknownRows):
            return True
        if self._yes or not is_interactive():
            return None
        *lines, asked = question_text(question).split("\n")
        say_all(lines)
        return click.confirm(asked, err=True)

    def progress(self, rows: int) -> Progress:
        """See `RunObserver.progress`."""
        return chosen(self._progress, rows, quiet=self._quiet)


def show_result(result: RunResult, *, as_json: bool) -> None:
    """Print what the run came to; *as_json*: its summary on stdout too."""
    if result.finished is None:
        return
    say_all(finished_lines(result.finished, now=time.time()))
    if as_json:
        out(json.dumps(result.finished.summary, ensure_ascii=False))
