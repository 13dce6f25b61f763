"""An option's value that is a duration: `30s`, `2m`, `1h30m`, `500ms`, a plain number of seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click import Context, Parameter


class Duration(click.ParamType[float]):
    """Seconds, as a float."""

    name = "duration"

    def convert(self, value: Any, param: Parameter | None, ctx: Context | None) -> float:
        """Read *value*, or fail as click fails."""
        from d3async.settings import seconds  # noqa: PLC0415 - `--help` need not load the settings

        try:
            number = seconds(value)
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)
        if number < 0:
            self.fail(f"{value!r} is below 0", param, ctx)
        return number


DURATION = Duration()
