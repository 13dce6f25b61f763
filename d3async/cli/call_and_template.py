"""`d3async call NAME`: one D3 command; `d3async template NAME`: a job file for it, empty."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from d3async.cli.console import out, say
from d3async.cli.options import settings_from, settings_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from d3async.config.settings import Settings
    from d3async.d3.commands import Command


@click.command("call")
@click.argument("name")
@click.option("-p", "--param", "params", multiple=True, metavar="'NAME=VALUE'", help="A parameter of D3's; repeatable.")
@click.option(
    "--json", "document", metavar="JSON|@FILE|-", help="CommandParams as JSON: lists, numbers. @FILE or - for stdin."
)
@settings_options
def call_command(name: str, params: tuple[str, ...], document: str | None, options: Mapping[str, Any]) -> int:
    """Send one D3 command, any name, and print the answer as JSON.

    A value that is a JSON list or object is sent as one:  -p 'Log Type ID=[7, 14]'

    \b
    Example:
      d3async call GetLinkedIncidentsOfAnIncident -p 'Incident Number=20231025-130'
    """  # noqa: D301 - the \\b is click's mark for lines that are not re-flowed
    import asyncio  # noqa: PLC0415 - `--help` need not load it

    settings = settings_from(options, needs=(name,))
    answer = asyncio.run(_call(settings, name, {**_document(document), **dict(map(_param, params))}))
    out(json.dumps(answer, ensure_ascii=False, indent=2))
    return 0


async def _call(settings: Settings, name: str, params: Mapping[str, Any]) -> Any:
    from d3async.client import D3Client  # noqa: PLC0415 - as above
    from d3async.engine.delivery import host_limiter  # noqa: PLC0415 - as above

    async with D3Client(settings, limiter=host_limiter(settings, say)) as d3:
        return await d3.call(name, params)


def _param(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="-p")
    if value.lstrip()[:1] in {"[", "{"}:
        return name.strip(), _loads(value, "-p")
    return name.strip(), value


def _document(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    if text == "-":
        text = sys.stdin.read()
    elif text.startswith("@"):
        try:
            with open(text[1:], encoding="utf-8") as file:  # noqa: PTH123 - a path as the user gave it
                text = file.read()
        except (OSError, UnicodeDecodeError) as error:
            raise click.BadParameter(f"{text[1:]} cannot be read: {error}", param_hint="--json") from error
    params = _loads(text, "--json")
    if not isinstance(params, dict):
        raise click.BadParameter("CommandParams is an object: {…}", param_hint="--json")
    return params


def _loads(text: str, hint: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint=hint) from error


@click.command("template")
@click.argument("name", metavar="create-task|remove-linked-incidents")
@click.option("--format", "kind", type=click.Choice(["csv", "jsonl"]), default="csv", show_default=True)
@click.option(
    "--profile", "profiles", multiple=True, metavar="PROFILE", help="With a column that says which D3; repeatable."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="[default: stdout]")
def template_command(name: str, kind: str, profiles: tuple[str, ...], output: Path | None) -> None:
    """Print an empty job file for the command NAME: its header and one example, or one for each --profile."""
    from d3async.cli.console import out, say  # noqa: PLC0415 - `--help` need not load pydantic
    from d3async.d3.commands import all_commands, find  # noqa: PLC0415 - as above

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
