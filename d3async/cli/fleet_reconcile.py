"""One `reconcile` of a run of a fleet: look up in its tenant's D3, settle, tell what is known now."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from d3async.cli.console import out, say
from d3async.cli.fleet_option import fleet_words, installed
from d3async.cli.settled import tell_counts
from d3async.cli.ways import FOR_LINKS, FOR_TASKS, how_to_set_any, ways
from d3async.client import D3Client
from d3async.connect import host_limiter
from d3async.errors import D3Error, JournalError, SettingsError, ThrottledError, UnauthorizedError
from d3async.journal.reconcile import UnknownRows
from d3async.readback import reconcile_links, reconcile_tasks
from d3async.sansio import exit_code as codes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from d3async.cli.settling import Options
    from d3async.fleet.address import Address
    from d3async.journal.postgres.session import RunSession
    from d3async.readback import LinkCounts, TaskCounts
    from d3async.settings import Profiles, Settings


@dataclass(slots=True)
class _Found:
    """What came of it; *code* and *trouble* say why it ended early, if it did."""

    tasks: TaskCounts | None = None
    links: LinkCounts | None = None
    code: int = codes.OK
    trouble: str = ""

    def counts(self) -> dict[str, Any]:
        told = (("links", self.links), ("tasks", self.tasks))
        return {name: asdict(counts) for name, counts in told if counts}


def reconcile(address: Address, name: str, fleet: str | None, profiles: Profiles, options: Options) -> int:
    """Settle what can be settled of the run *name*; the exit code. Raises `SettingsError` and `JournalError`."""
    with installed():
        from d3async.journal.postgres.read import PostgresReader  # noqa: PLC0415 - as above
        from d3async.journal.postgres.session import RunSession  # noqa: PLC0415 - for those who have a fleet

        with PostgresReader(address.conninfo, name) as reader:
            home = reader.meta().get("base_url")
        with RunSession(address.conninfo, name) as run:
            rows = UnknownRows(run)
            before = sum(rows.counts())
            if not before:
                say(f"{name}: no row is unknown.")
            found = _settle(run, rows, _settings(run, home, profiles), options) if before else _Found()
            left = sum(rows.counts())
            code = found.code or (codes.SOME_UNKNOWN if left else codes.OK)
            if before:
                _note(address, run, found)
    _tell(name, before, left, found)
    if options.as_json:
        out(json.dumps({"unknown_before": before, "unknown_left": left, **found.counts()}))
    elif before:
        say(f"results   d3async results {name}{fleet_words(fleet, address)} -o {name}.results.csv")
    return code


def _settings(run: RunSession, home: str | None, profiles: Profiles) -> Settings:
    """Where the run's tenant is. Raises `SettingsError` when its profile leads elsewhere by now."""
    settings = profiles.settings(run.tenant)
    if home and home != settings.base_url:
        message = f"{run.name} is a run against {home}, not {settings.base_url}: what that D3 holds proves nothing."
        raise SettingsError(message, code="other_d3")
    return settings


def _settle(run: RunSession, rows: UnknownRows, settings: Settings, options: Options) -> _Found:
    tasks, links, others = rows.counts()
    chosen = {what: _chosen(rows, names, settings, options) for what, rows, names in (
        ("tasks", tasks, FOR_TASKS), ("links", links, FOR_LINKS))}  # fmt: skip
    if not any(chosen.values()):
        needed = [names for rows, names in ((tasks, FOR_TASKS), (links, FOR_LINKS)) if rows]
        words = "; ".join(how_to_set_any(names) for names in needed) or "No command reads these back"
        by_hand = f"or look in D3 yourself, then: d3async settle {run.name} ok|failed ROWS"
        raise SettingsError(f"{words}; {by_hand}")
    host = urlsplit(settings.base_url).hostname
    say(f"{run.name}: {tasks + links + others:,} rows unknown; looking them up at {host}")
    found = _Found()
    try:
        asyncio.run(_look_up(rows, settings, options, chosen, found))
    except KeyboardInterrupt:
        found.code, found.trouble = codes.INTERRUPTED, "Interrupted; what was settled stands."
    except JournalError:
        raise
    except UnauthorizedError as error:
        found.code, found.trouble = codes.STOPPED, f"D3 does not accept the key ({error.message})"
    except D3Error as error:
        found.code = codes.THROTTLED if isinstance(error, ThrottledError) else codes.SOME_UNKNOWN
        found.trouble = error.message
    return found


def _chosen(rows: int, names: Sequence[str], settings: Settings, options: Options) -> tuple[str, ...]:
    found = ways(settings, names, options.using) if rows else ()
    if rows and not found:
        say(f"{rows:,} rows stay unknown: {how_to_set_any(names)}")
    return found


async def _look_up(
    rows: UnknownRows, settings: Settings, options: Options, chosen: dict[str, tuple[str, ...]], found: _Found
) -> None:
    async with D3Client(settings, limiter=host_limiter(settings, say)) as client:
        if chosen["tasks"]:
            found.tasks = await reconcile_tasks(client, rows, not_found_is_failed=options.not_found_is_failed)
        if chosen["links"]:
            found.links = await reconcile_links(client, rows, chosen["links"])


def _note(address: Address, run: RunSession, found: _Found) -> None:
    """Write down what the rows say now; a code that tells of a stop stands."""
    from d3async.journal.postgres.read import PostgresReader  # noqa: PLC0415 - as above

    with PostgresReader(address.conninfo, run.name) as reader:
        outcomes, runs = reader.counts(), reader.runs()
    before = runs[-1].exit_code if runs else None
    recounted = before in {None, codes.OK, codes.SOME_FAILED, codes.SOME_UNKNOWN}
    code = codes.exit_code(outcomes, None) if recounted or before is None else before
    run.set_exit_code(code, {"reconciled": {"at": time.time(), **found.counts()}})


def _tell(name: str, before: int, left: int, found: _Found) -> None:
    tell_counts(found.tasks, found.links)
    if found.trouble:
        say(f"Stopped: {found.trouble}")
    if before:
        say(f"{name}: settled {before - left:,} of {before:,}. {left:,} left unknown.")
