"""`d3async reconcile DIR`: look unknown rows up in D3, and settle those that it proves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from d3async.cli.console import Terminal, out, say, say_all
from d3async.cli.fleet_option import fleet_option, fleet_words, meant
from d3async.cli.folders import run_folder
from d3async.cli.settings_options import settings_options
from d3async.fleet.address import installed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from d3async.operations.reconcile import ReconcileResult


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
def command(target: Path, fleet: str | None, options: Mapping[str, Any], **given: Any) -> int:
    """Look up the rows nobody knows about in D3, and settle those it proves. Changes nothing in D3.

    DIR is a run folder, RUN a run of a fleet, whose tenant's key is in its profile.

    Links are read with GetIncidents, or with GetLinkedIncidentsOfAnIncident, which can prove only that a link is
    gone. Tasks are searched in the command-centre logs of their incidents: exactly by the mark of `run --mark-tasks`,
    else by name, description, assignee and due date, all four. What is not proven stays unknown; why is in _message.
    Rows that name a profile are looked up at its D3, one D3 after the other.

    D3 makes keys for each command: D3_API_KEY_GET_INCIDENTS, D3_API_KEY_GET_LINKED_INCIDENTS_OF_AN_INCIDENT,
    D3_API_KEY_GET_INCIDENT_COMMAND_CENTER_LOGS.

    \b
    Exit codes: 0 nothing is unknown any more · 4 some rows are · 2 usage, settings, or the folder is in use ·
    5 D3 does not accept a key · 6 D3 asks for too long a pause · 130 interrupted; what was settled stands
    """  # noqa: D301 - the \\b is click's mark for lines that are not re-flowed
    from d3async.cli.servers import Servers  # noqa: PLC0415 - `--help` need not load what talks to D3
    from d3async.operations.reconcile import ReconcileOptions, reconcile  # noqa: PLC0415 - as above
    from d3async.operations.settle import FleetRun  # noqa: PLC0415 - as above

    as_json = given.pop("as_json")
    address = meant(target, fleet)
    if address is None:
        result = reconcile(run_folder(target), Servers(options).of, ReconcileOptions(**given), Terminal())
    else:
        from d3async.settings import Profiles  # noqa: PLC0415 - as above

        profiles = Profiles(**{name: value for name, value in options.items() if name != "profile"})
        with installed():
            result = reconcile(
                FleetRun(address.conninfo, str(target)),
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
