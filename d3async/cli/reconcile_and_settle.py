"""`d3async settle DIR ok|failed|undo ROWS`: the user says what became of unknown rows."""

from __future__ import annotations

import getpass
import json
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from d3async.cli.console import out, say
from d3async.cli.fleet_option import fleet_option, fleet_words, meant, run_or_folder
from d3async.fleet.address import installed
from d3async.sansio.exit_code import INTERRUPTED, OK, USAGE
from d3async.sansio.hand_settlement import Hand, RowChoice, parse_rows

if TYPE_CHECKING:
    from click import Context, Parameter

    from d3async.operations.settle import SettleResult, Verdict

_SHOWN = 20


def _rows(ctx: Context, param: Parameter, given: tuple[str, ...]) -> RowChoice:  # noqa: ARG001 - click's signature
    try:
        return parse_rows(given)
    except ValueError as error:
        raise click.BadParameter(f"{str(error)!r} is neither a row number nor a range like 5-9") from None


@click.command("settle")
@click.argument("target", metavar="DIR|RUN", type=click.Path(path_type=Path))
@click.argument("verdict", metavar="ok|failed|undo", type=click.Choice(["ok", "failed", "undo"]))
@click.argument("rows", metavar="[ROWS]...", nargs=-1, callback=_rows)
@fleet_option
@click.option(
    "--from",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The rows that its column _row names: unknown.csv, or a part of it or of results.csv.",
)
@click.option(
    "--all", "every", is_flag=True, help="All unknown rows; with undo, all that can be taken back. Asks first."
)
@click.option("--json", "as_json", is_flag=True, help="What was settled as one JSON object on stdout.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(
    target: Path, verdict: Verdict, rows: RowChoice, fleet: str | None, file: Path | None, **given: bool
) -> int:
    """Say what became of unknown rows after you have looked in D3. Sends nothing.

    DIR is a run folder, RUN a run of a fleet. ROWS are row numbers and ranges of them, as `_row` in results.csv.

    `ok`: it happened; the row is never sent again. `failed`: it did not happen; the next run sends the row. Of a row
    of links only the unknown links are settled. `undo` makes rows what they were before, unless they were sent since.
    All the rows named are settled, or none. The code is settled_by_hand; who did it and when is kept in the journal.

    \b
    Examples:
      d3async settle tasks.d3run ok 3 5-9
      d3async settle tasks.d3run failed --from looked-up.csv
      d3async settle tasks.d3run undo 3

    \b
    Exit codes: 0 all of them are settled · 2 usage, a row cannot be settled, or the rows are being sent ·
    130 you said no
    """  # noqa: D301 - the \\b is click's mark for lines that are not re-flowed
    from d3async.operations import settle as operation  # noqa: PLC0415 - `--help` need not load it

    choice = _choice(rows, file, every=given["every"])
    address = meant(target, fleet)
    if choice.every and not given["yes"] and not _agreed(target, verdict):
        return INTERRUPTED
    with installed():
        result = operation.settle(run_or_folder(target, fleet), verdict, choice, by=_hand())
    if given["as_json"]:
        _print_json(verdict, result)
    where = "" if address is None else fleet_words(fleet, address)
    return _refused(target, result) if result.refused else _settled(target, verdict, result, where)


def _choice(rows: RowChoice, file: Path | None, *, every: bool) -> RowChoice:
    """The one way in which rows were named."""
    if sum((bool(rows.ranges), file is not None, every)) != 1:
        raise click.UsageError("name the rows: by numbers (3 5-9), by --from FILE, or by --all")
    if file is None:
        return RowChoice(every=True) if every else rows
    from d3async.operations.settle import rows_named_in  # noqa: PLC0415 - `--help` need not load it

    return rows_named_in(file)


def _agreed(target: Path, verdict: Verdict) -> bool:
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()):
        raise click.UsageError("--all settles every unknown row; to confirm it, add --yes")
    question = {
        "ok": f"Settle all unknown rows of {target} as ok? They are never sent again.",
        "failed": f"Settle all unknown rows of {target} as failed? The next run sends them again.",
        "undo": f"Take back all that was settled by hand in {target}?",
    }
    return click.confirm(question[verdict], err=True)


def _hand() -> Hand:
    try:
        who = getpass.getuser()
    except (OSError, KeyError):
        who = "an unknown user"
    return Hand(who, socket.gethostname(), time.time())


def _refused(target: Path, result: SettleResult) -> int:
    say(f"{target}: nothing was changed.")
    for refusal in result.refused[:_SHOWN]:
        line = f" (line {refusal.line})" if refusal.line is not None else ""
        say(f"  {refusal.what}{line}: {refusal.why}")
    if len(result.refused) > _SHOWN:
        say(f"  and {len(result.refused) - _SHOWN:,} more")
    return USAGE


def _settled(target: Path, verdict: Verdict, result: SettleResult, where: str) -> int:
    rows = f"{result.rows:,} row{'' if result.rows == 1 else 's'}"
    if not result.rows:
        say(f"{target}: " + ("nothing can be taken back." if verdict == "undo" else "no row is unknown."))
    elif verdict == "undo":
        say(f"{target}: {rows} unknown again, as before.")
    else:
        again = "the next submit of the file sends" if result.files is None else "the next run sends"
        then = "which is never sent again" if verdict == "ok" else f"which {again} again"
        say(f"{target}: {rows} settled as {verdict}, {then}.")
        say(f"{result.outcomes['unknown']:,} left unknown. To take it back: d3async settle {target} undo ROWS{where}")
    if result.files is None:
        say(f"results   d3async results {target}{where} -o {target}.results.csv")
    else:
        say(f"results   {result.files.results}      report  {result.files.report}")
        from d3async.cli.result_text import left_lines  # noqa: PLC0415 - `--help` need not load it

        for line in left_lines(result.files):
            say(line)
    from d3async.files.suggestions import suggested_lines  # noqa: PLC0415 - `--help` need not load it

    for label, text in suggested_lines(result.steps):
        say(f"{label:<9} {text}")
    return OK


def _print_json(verdict: Verdict, result: SettleResult) -> None:
    told = {
        "settled_as": verdict,
        "rows": result.rows,
        "refused": [{"what": refusal.what, "line": refusal.line, "why": refusal.why} for refusal in result.refused],
        "outcomes": dict(result.outcomes),
    }
    out(json.dumps(told, ensure_ascii=False))
