"""`d3async reconcile DIR`: look up rows nobody knows about, and settle those that D3 proves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from d3async.cli.fleet_option import fleet_option, meant
from d3async.cli.folders import run_folder
from d3async.cli.settings_options import settings_options

if TYPE_CHECKING:
    from collections.abc import Mapping


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
    from d3async.cli.settling import Options, reconcile  # noqa: PLC0415 - as above

    if (address := meant(target, fleet)) is not None:
        from d3async.cli import fleet_reconcile  # noqa: PLC0415 - as above
        from d3async.settings import Profiles  # noqa: PLC0415 - as above

        profiles = Profiles(**{name: value for name, value in options.items() if name != "profile"})
        return fleet_reconcile.reconcile(address, str(target), fleet, profiles, Options(**given))
    return reconcile(run_folder(target), Servers(options), Options(**given))
