"""`d3async reconcile` and `settle`: unknown rows are looked up in D3, or the user says what became of them."""

from __future__ import annotations

import getpass
import json
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from d3async.cli.console import Terminal, out, say, say_all
from d3async.cli.options import fleet_option, run_folder, run_or_folder, servers_from, settings_options
from d3async.config.database_urls import fleet_meant, fleet_words, installed
from d3async.policy.halt_and_exit_codes import INTERRUPTED, OK, USAGE
from d3async.policy.hand_settlement import Hand, RowChoice, parse_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from click import Context, Parameter

    from d3async.operations.reconcile import ReconcileResult
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
def settle_command(
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
    address = fleet_meant(target, fleet)
    if choice.every and not given["yes"] and not _agreed(target, verdict):
        return INTERRUPTED
    with installed():
        result = operation.settle(run_or_folder(target, fleet), verdict, choice, by=by_hand())
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


def by_hand() -> Hand:
    """The user of this process, now."""
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


@click.command("reconcile")
@click.argument("target", metavar="DIR|RUN", type=click.Path(path_type=Path))
@fleet_option
@click.option(
    "--using",
    multiple=True,
    type=click.Choice(["get-incidents", "get-linked-incidents", "logs"]),
    help="What to read D3 with; repeatable.  [default: all there is a key for]",
)
@click.option(
    "--not-found-is-failed",
    is_flag=True,
    help="A marked task that a log lacks although it shows all others was not created: send it again.",
)
@click.option("--json", "as_json", is_flag=True, help="What was settled as one JSON object on stdout.")
@settings_options
def reconcile_command(target: Path, fleet: str | None, options: Mapping[str, Any], **given: Any) -> int:
    """Look up unknown rows in D3, and settle those that it proves. Changes nothing in D3.

    DIR is a run folder, RUN a run of a fleet, whose tenant's key is in its profile.

    Links are read with GetIncidents, or with GetLinkedIncidentsOfAnIncident, which can prove only that a link is
    gone. Tasks are searched in the command-centre logs of their incidents: exactly by the mark of `run --mark-tasks`,
    else by name, description, assignee and due date, all four. What is not proven stays unknown; why is in _message.
    Rows that name a profile are looked up at its D3, one D3 after the other.

    D3 makes keys for each command: D3_API_KEY_GET_INCIDENTS, D3_API_KEY_GET_LINKED_INCIDENTS_OF_AN_INCIDENT,
    D3_API_KEY_GET_INCIDENT_COMMAND_CENTER_LOGS.

    \b
    Exit codes: 0 nothing is unknown any more · 4 some rows are · 2 usage, settings, or the folder is in use ·
    5 D3 does not accept a key · 6 D3 asks for too long a pause · 130 interrupted; what was settled is kept
    """  # noqa: D301 - the \\b is click's mark for lines that are not re-flowed
    from d3async.operations.reconcile import ReconcileOptions, reconcile  # noqa: PLC0415 - as above
    from d3async.operations.settle import FleetRunName  # noqa: PLC0415 - as above

    as_json = given.pop("as_json")
    address = fleet_meant(target, fleet)
    if address is None:
        result = reconcile(run_folder(target), servers_from(options).of, ReconcileOptions(**given), Terminal())
    else:
        from d3async.config.settings import Profiles  # noqa: PLC0415 - as above

        profiles = Profiles(**{name: value for name, value in options.items() if name != "profile"})
        with installed():
            result = reconcile(
                FleetRunName(address.conninfo, str(target)),
                lambda profile: profiles.settings(str(profile)),
                ReconcileOptions(**given),
                Terminal(),
            )
    _show(target, result)
    if as_json:
        told = {"unknown_before": result.before.rows, "unknown_left": result.left.rows, **result.found.counts()}
        out(json.dumps(told))
    elif address is not None and result.before.rows:
        say(f"results   d3async results {target}{fleet_words(fleet, address)} -o {target}.results.csv")
    return result.exit_code


def _show(target: Path, result: ReconcileResult) -> None:
    if not result.before.rows:
        say(f"{target}: no row is unknown.")
        return
    tasks, links = result.found.tasks, result.found.links
    if tasks:
        say(f"  tasks   {tasks.found:,} found · {tasks.absent:,} not there · {tasks.open:,} not proven")
    if links:
        say(f"  links   {links.gone:,} gone · {links.linked:,} still linked · {links.cannot_tell:,} not proven")
    for trouble in result.found.troubles:
        say(f"Stopped: {trouble}")
    settled = result.before.rows - result.left.rows
    say(f"Settled {settled:,} of {result.before.rows:,}. {result.left.rows:,} left unknown.")
    for line, label, message in result.examples:
        say(f"  line {line}, {label}: {message}")
    if result.files:
        say(f"results   {result.files.results}      report  {result.files.report}")
        from d3async.cli.result_text import left_lines  # noqa: PLC0415 - `--help` need not load it

        say_all(left_lines(result.files))
    from d3async.files.suggestions import suggested_lines  # noqa: PLC0415 - `--help` need not load it

    for label, text in suggested_lines(result.steps):
        say(f"{label:<9} {text}")
