"""`--halt RULE`, the same for a run of this machine and for one of a fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from d3async.sansio import halt

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")


class _HaltRule(click.ParamType[halt.Halt]):
    name = "rule"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> halt.Halt:
        if isinstance(value, halt.Halt):
            return value
        try:
            return halt.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def halt_option(function: F) -> F:
    """Add `--halt`; *function* gets the rules as *halts*, as they were given: see `halt.with_default`."""
    text = "failed=3%, failed=20, unknown=5."
    return click.option("--halt", "halts", type=_HaltRule(), multiple=True, metavar="RULE", help=text)(function)
