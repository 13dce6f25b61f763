"""`d3async template NAME`: a job file with the right header and one example row."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from d3async.commands.base import Command


@click.command("template")
@click.argument("name", metavar="create-task|remove-linked-incidents")
@click.option("--format", "kind", type=click.Choice(["csv", "jsonl"]), default="csv", show_default=True)
@click.option(
    "--profile", "profiles", multiple=True, metavar="PROFILE", help="With a column that says which D3; repeatable."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="[default: stdout]")
def command(name: str, kind: str, profiles: tuple[str, ...], output: Path | None) -> None:
    """Print an empty job file for the command NAME: its header and one example, or one for each --profile."""
    from d3async.cli.console import out, say  # noqa: PLC0415 - `--help` need not load pydantic
    from d3async.commands import all_commands, find  # noqa: PLC0415 - as above

    found = find(name)
    if found is None:
        raise click.UsageError(f'"{name}" is none of {", ".join(all_commands())}')
    rows = [{**found.example, "profile": profile} for profile in profiles] or [dict(found.example)]
    text = _csv(rows) if kind == "csv" else "".join(_jsonl(found, row) for row in rows)
    if output is None:
        out(text.removesuffix("\n"))
        return
    try:
        with output.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
    except OSError as error:
        raise click.UsageError(f"{output} cannot be written: {(error.strerror or str(error)).lower()}") from error
    say(f"{output}: put your rows below the example's place, then d3async check {output}")


def _csv(rows: Sequence[Mapping[str, str]]) -> str:
    import csv  # noqa: PLC0415 - as above
    import io  # noqa: PLC0415 - as above

    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _jsonl(command: type[Command], row: Mapping[str, str]) -> str:
    import json  # noqa: PLC0415 - as above

    example: dict[str, object] = dict(row)
    if command.items:
        example[command.items] = row[command.items].split(";")
    return json.dumps(example, ensure_ascii=False) + "\n"
