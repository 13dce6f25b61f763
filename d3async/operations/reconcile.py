"""Look unknown rows up in D3, and settle those that it proves: in a run folder and in a run of the fleet alike."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from d3async.client import D3Client
from d3async.engine.delivery import host_limiter
from d3async.engine.read_back import reconcile_links, reconcile_tasks
from d3async.errors import D3Error, JournalError, SettingsError, ThrottledError, UnauthorizedError
from d3async.files.run_files import write_again
from d3async.files.suggestions import suggest
from d3async.files.summary import last_facts
from d3async.journal.reconcile import UnknownRows
from d3async.journal.sqlite.reader import FILE, FolderReader
from d3async.journal.sqlite.session import FolderSession, hold, let_go
from d3async.operations.server_settings import FOR_LINKS, FOR_TASKS, how_to_set_any, lookup_commands
from d3async.policy import halt_and_exit_codes as codes
from d3async.policy.next_step import Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from d3async.config.settings import Settings
    from d3async.engine.read_back import LinkCounts, TaskCounts
    from d3async.files.run_files import WrittenFiles
    from d3async.journal.model import RunRecord
    from d3async.journal.postgres.submission import RunSession
    from d3async.operations.observer import OperationObserver
    from d3async.operations.settle import FleetRunName

    SettingsOf = Callable[[str | None], Settings]
    """The settings of a profile; None is that of rows that name none."""

_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileOptions:
    """*using* names commands to look up with, see `lookup_commands.USING`; none: all that there is a key for.

    With *not_found_is_failed* a marked task that its log surely lacks counts as failed.
    """

    using: Sequence[str] = ()
    not_found_is_failed: bool = False


class UnknownCounts(NamedTuple):
    """Unknown rows by kind: tasks, rows of links, rows of other commands."""

    tasks: int
    links: int
    others: int

    @property
    def rows(self) -> int:
        """All of them."""
        return self.tasks + self.links + self.others


@dataclass(slots=True, kw_only=True)
class Lookups:
    """What was found in D3; None where nothing of that kind was looked up. *troubles* say what ended it early.

    *code* is the exit code of the worst of them.
    """

    links: LinkCounts | None = None
    tasks: TaskCounts | None = None
    code: int = codes.OK
    troubles: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, Any]:
        """As JSON."""
        return {name: asdict(counts) for name, counts in (("links", self.links), ("tasks", self.tasks)) if counts}

    def add(self, name: str, error: D3Error) -> None:
        """Note what ended the lookup at the server that is called *name*."""
        code, trouble = codes.SOME_UNKNOWN, error.message
        if isinstance(error, UnauthorizedError):
            code, trouble = codes.STOPPED, f"D3 does not accept the key ({error.message})"
        elif isinstance(error, ThrottledError):
            code = codes.THROTTLED
        self.code = max(self.code, code)
        self.troubles.append(name + trouble)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileResult:
    """Rows that were unknown *before* and are *left*; *examples* are the first of these, as (line, label, message).

    *files* are those of a run folder that were written again, None where nothing was looked up.
    """

    before: UnknownCounts
    left: UnknownCounts
    found: Lookups
    examples: Sequence[tuple[int, str, str]] = ()
    files: WrittenFiles | None = None
    steps: Steps = field(default_factory=Steps)

    @property
    def exit_code(self) -> int:
        """As the contract lists them."""
        return self.found.code or (codes.SOME_UNKNOWN if self.left.rows else codes.OK)


@dataclass(frozen=True, slots=True)
class _Server:
    """One D3, and the commands to look links and tasks up with; *advice* is what would make more of it known."""

    name: str
    profile: str | None
    settings: Settings
    links: Sequence[str]
    tasks: Sequence[str]
    advice: Mapping[str, str]

    @property
    def has_commands(self) -> bool:
        return bool(self.links or self.tasks)


class _Held(NamedTuple):
    """A journal that this process may change. *keep* notes that it was looked up, and what of."""

    rows: Callable[[str | None], UnknownRows]
    keep: Callable[[Mapping[str, Any]], None]


class _Journal(Protocol):
    """The journal of a run folder, or of a run of the fleet. *name* is what users call it."""

    name: str

    def unknown(self) -> Mapping[str | None, UnknownCounts]: ...

    def base_urls(self) -> Mapping[str | None, str]: ...

    def held(self) -> AbstractContextManager[_Held]: ...

    def result(self, before: UnknownCounts, left: UnknownCounts, found: Lookups | None) -> ReconcileResult: ...


def reconcile(
    target: Path | FleetRunName, settings_of: SettingsOf, options: ReconcileOptions, observer: OperationObserver
) -> ReconcileResult:
    """Settle what can be settled in the run folder or the run of the fleet *target*. Changes nothing in D3.

    Raises `SettingsError` where nothing can be looked up, `JournalError`, `FolderHeldError` while rows are being sent.
    """
    with _journal(target) as journal:
        unknown = journal.unknown()
        before = _total(unknown.values())
        servers = _servers(journal, unknown, settings_of, options, observer) if before.rows else []
        found = None
        if any(server.has_commands for server in servers):
            observer.message(_start(journal.name, before, servers))
            found = _look_up(journal, servers, options, observer)
        return journal.result(before, _total(journal.unknown().values()), found)


@contextmanager
def _journal(target: Path | FleetRunName) -> Iterator[_Journal]:
    if isinstance(target, Path):
        yield _Folder(target)
        return
    from d3async.journal.postgres.submission import RunSession  # noqa: PLC0415 - psycopg, for those who have a fleet

    with RunSession(target.conninfo, target.name) as session:
        yield _FleetRun(target, session)


class _Folder:
    """`_Journal` of the run folder *path*."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    def unknown(self) -> Mapping[str | None, UnknownCounts]:
        found: dict[str | None, dict[str, int]] = {}
        with FolderReader(self._path / FILE) as reader:
            for profile, command, count in reader.unknown_rows():
                found.setdefault(profile, {})[command] = count
        return {
            profile: UnknownCounts(
                counts.pop("CreateTask", 0), counts.pop("RemoveLinkedIncidents", 0), sum(counts.values())
            )
            for profile, counts in found.items()
        }

    def base_urls(self) -> Mapping[str | None, str]:
        with FolderReader(self._path / FILE) as reader:
            return reader.base_urls()

    @contextmanager
    def held(self) -> Iterator[_Held]:
        folder = hold(self._path, now=time.time())
        with closing(folder):

            def keep(looked: Mapping[str, Any]) -> None:
                outcomes = folder.settle_leftovers()
                with FolderReader(self._path / FILE) as reader:
                    code = _exit_code(reader.runs(), outcomes)
                let_go(folder, now=time.time(), exit_code=code, told={"reconciled": looked})

            yield _Held(lambda profile: UnknownRows(FolderSession(folder), profile), keep)

    def result(self, before: UnknownCounts, left: UnknownCounts, found: Lookups | None) -> ReconcileResult:
        files = None if found is None else write_again(self._path)
        with FolderReader(self._path / FILE) as reader:
            return ReconcileResult(
                before=before,
                left=left,
                found=found or Lookups(),
                examples=reader.unknown_examples(_SHOWN),
                files=files,
                steps=suggest(reader, last_facts(reader.runs())),
            )


class _FleetRun:
    """`_Journal` of a run of the fleet, whose rows are all for the profile of its tenant."""

    def __init__(self, run: FleetRunName, session: RunSession) -> None:
        self.name = run.name
        self._run = run
        self._session = session

    def unknown(self) -> Mapping[str | None, UnknownCounts]:
        counts = UnknownCounts(*UnknownRows(self._session).counts())
        return {self._session.tenant: counts} if counts.rows else {}

    def base_urls(self) -> Mapping[str | None, str]:
        from d3async.journal.postgres.reader import FleetRunReader  # noqa: PLC0415 - psycopg, as above

        with FleetRunReader(self._run.conninfo, self.name) as reader:
            home = reader.meta().get("base_url")
        return {self._session.tenant: home} if home else {}

    @contextmanager
    def held(self) -> Iterator[_Held]:
        yield _Held(lambda _: UnknownRows(self._session), self._keep)

    def _keep(self, looked: Mapping[str, Any]) -> None:
        from d3async.journal.postgres.reader import FleetRunReader  # noqa: PLC0415 - psycopg, as above

        with FleetRunReader(self._run.conninfo, self.name) as reader:
            code = _exit_code(reader.runs(), reader.counts())
        self._session.set_exit_code(code, {"reconciled": looked})

    def result(self, before: UnknownCounts, left: UnknownCounts, found: Lookups | None) -> ReconcileResult:
        return ReconcileResult(before=before, left=left, found=found or Lookups())


def _total(counts: Iterable[UnknownCounts]) -> UnknownCounts:
    return UnknownCounts(*(sum(kind) for kind in zip((0, 0, 0), *counts, strict=True)))


def _exit_code(runs: Sequence[RunRecord], outcomes: Mapping[str, int]) -> int:
    """The exit code of the last of *runs* now that its rows have *outcomes*; one that says why it stopped is kept."""
    return codes.recounted(last_facts(runs).get("exit_code"), outcomes)


def _servers(
    journal: _Journal,
    unknown: Mapping[str | None, UnknownCounts],
    settings_of: SettingsOf,
    options: ReconcileOptions,
    observer: OperationObserver,
) -> list[_Server]:
    """The servers to look into. Raises `SettingsError` when nothing can be looked up at all."""
    base_urls = journal.base_urls()
    servers, troubles = [], []
    for profile, counts in unknown.items():
        name = "" if len(unknown) == 1 else f"{profile or '(no profile)'}: "
        try:
            settings = _settings_at(journal.name, base_urls.get(profile), settings_of(profile))
        except SettingsError as error:
            if len(unknown) == 1:
                raise
            troubles.append(name + error.message)
        else:
            servers.append(_server(name, profile, counts, settings, options))
    keyless = [server for server in servers if not server.has_commands]
    troubles += dict.fromkeys(server.name + "; ".join(server.advice.values()) for server in keyless if server.advice)
    if troubles and len(keyless) == len(servers):
        by_hand = f"or look in D3 yourself, then: d3async settle {journal.name} ok|failed ROWS"
        raise SettingsError("; ".join([*troubles, by_hand]), code="no_key")
    for server in servers:
        for what, advice in server.advice.items() if server.has_commands else ():
            observer.message(f"{server.name}{what} stay unknown: {advice}")
    for trouble in troubles:
        observer.message(f"{trouble}: its rows stay unknown")
    return servers


def _settings_at(place: str, base_url: str | None, settings: Settings) -> Settings:
    """*settings*, if they lead to *base_url*. Raises `SettingsError`."""
    if base_url and base_url != settings.base_url:
        message = f"{place} holds a run against {base_url}, not {settings.base_url}: what that D3 holds proves nothing."
        raise SettingsError(message, code="other_d3")
    return settings


def _server(
    name: str, profile: str | None, unknown: UnknownCounts, settings: Settings, options: ReconcileOptions
) -> _Server:
    found, advice = {}, {}
    for what, rows, names in (("links", unknown.links, FOR_LINKS), ("tasks", unknown.tasks, FOR_TASKS)):
        found[what] = lookup_commands(settings, names, options.using) if rows else ()
        if rows and not found[what]:
            using = f"--using {' or '.join(names)} looks them up"
            advice[what] = using if options.using else how_to_set_any(names)
    return _Server(name, profile, settings, **found, advice=advice)


def _start(name: str, before: UnknownCounts, servers: Sequence[_Server]) -> str:
    counted = ((before.tasks, "task", "tasks"), (before.links, "row of links", "rows of links"))
    parts = [f"{count:,} {one if count == 1 else many}" for count, one, many in counted if count]
    parts += [f"{before.others:,} of other commands"] if before.others else []
    where = urlsplit(servers[0].settings.base_url).hostname if len(servers) == 1 else f"{len(servers):,} servers"
    return f"{name}: {', '.join(parts)} unknown; looking them up at {where}"


def _look_up(
    journal: _Journal, servers: Sequence[_Server], options: ReconcileOptions, observer: OperationObserver
) -> Lookups:
    found = Lookups()
    with journal.held() as held:
        try:
            asyncio.run(_look_up_at_all(held, servers, options, observer, found))
        except KeyboardInterrupt:
            found.code = codes.INTERRUPTED
            found.troubles.append("Interrupted; what was settled is kept.")
        held.keep({"at": time.time(), "ended_early": bool(found.troubles), **found.counts()})
    return found


async def _look_up_at_all(
    held: _Held, servers: Sequence[_Server], options: ReconcileOptions, observer: OperationObserver, found: Lookups
) -> None:
    """Look into one D3 after the other: what is found is recorded at once."""
    for server in servers:
        try:
            await _look_up_at(held.rows(server.profile), server, options, observer, found)
        except JournalError:
            raise
        except D3Error as error:
            found.add(server.name, error)


async def _look_up_at(
    rows: UnknownRows, server: _Server, options: ReconcileOptions, observer: OperationObserver, found: Lookups
) -> None:
    async with D3Client(server.settings, limiter=host_limiter(server.settings, observer.message)) as client:
        if server.tasks:
            tasks = await reconcile_tasks(client, rows, not_found_is_failed=options.not_found_is_failed)
            found.tasks = tasks if found.tasks is None else found.tasks + tasks
        if server.links:
            links = await reconcile_links(client, rows, server.links)
            found.links = links if found.links is None else found.links + links
