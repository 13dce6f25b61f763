"""What a run is about to do: its counts, rows that look like rows sent before, the requests of `--dry-run`."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from d3async.d3.call import API_PATH, Account, request_for
from d3async.errors import SettingsError
from d3async.journal.sqlite.reader import work_by_profile
from d3async.journal.sqlite.row_claims import RowStore
from d3async.operations.observer import SendSimilarRows, StartAnew
from d3async.operations.send_rows import AT_ONCE
from d3async.operations.server_settings import Server, seconds
from d3async.policy.look_alikes import ALL

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from d3async.config.settings import Settings
    from d3async.d3.call import Call
    from d3async.journal.model import Changes, Similar
    from d3async.journal.sqlite.reader import Work
    from d3async.journal.sqlite.run_folder import RunFolder
    from d3async.operations.job_file import OpenJobFile
    from d3async.operations.observer import OperationObserver, RunObserver
    from d3async.operations.server_settings import Servers, SettingsByProfile
    from d3async.policy.look_alikes import Lines


@dataclass(frozen=True, slots=True)
class Plan:
    """A run about to start. *outcomes* is what earlier runs already know of the file's rows.

    *servers* are those with rows to be sent, the one that takes longest first. *other_day* and *other_name* count rows
    that resemble rows sent before; see `policy.look_alikes.mentioned`. *digest* is that of `digest_of`.
    """

    name: str
    servers: tuple[Server, ...]
    works: tuple[Work, ...]
    outcomes: Mapping[str, int]
    changes: Changes
    rerun: bool
    mirrored: int
    other_day: int = 0
    other_name: int = 0
    digest: str = ""

    @property
    def rows(self) -> int:
        """Rows to send."""
        return sum(work.rows for work in self.works)

    @property
    def requests(self) -> int:
        """Requests expected, if none has to be repeated."""
        return sum(work.requests for work in self.works)

    @property
    def seconds(self) -> float:
        """How long the limits make it take."""
        each = [seconds(server) for server in self.servers]
        return max(max(each, default=0.0), sum(each) / AT_ONCE)


OF_THE_FILE = ("sha256", "read_by", "command", "uid")
"""What a journal says of its file, and of itself, that `digest_of` takes."""


def digest_of(plan: Plan, file: Mapping[str, str], chosen: Mapping[str, Any]) -> str:
    """Names *plan*: another one where the file, how it is read, what is chosen, a server or a row's state differs.

    *file* is what the journal says of `OF_THE_FILE`, *chosen* the options that decide which rows are sent, and how.
    """
    known = {
        "file": [file[name] for name in ("sha256", "read_by", "command")],
        "run": file["uid"] if plan.rerun else None,
        "chosen": chosen,
        "outcomes": dict(plan.outcomes),
        "works": [[work.command.__name__, work.rows, work.requests, work.items] for work in plan.works],
        "servers": [
            [server.profile, server.settings.base_url, server.settings.site, server.settings.username, server.rows]
            for server in plan.servers
        ],
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


def shares(
    db: sqlite3.Connection, homes: SettingsByProfile, works: tuple[Work, ...], links_per_call: int
) -> tuple[Server, ...]:
    """What *works* come to for each of *homes*, the server that takes longest first."""
    if len(homes) == 1 and works:
        [(profile, settings)] = homes.items()
        names = tuple(work.command.__name__ for work in works)
        return (Server(profile, settings, names, sum(work.rows for work in works), sum(w.requests for w in works)),)
    found = work_by_profile(db, links_per_call)
    servers = [Server(profile, homes[profile], *work) for profile, work in found.items()]
    return tuple(sorted(servers, key=lambda server: -seconds(server)))


_PAGE = 200


def requests(folder: RunFolder, plan: Plan, links_per_call: int) -> Iterator[dict[str, Any]]:
    """Each request of *plan* as JSON, its secrets masked. The folder's transaction is left to be undone."""
    store = RowStore(folder.db, epoch=folder.epoch)
    for server in plan.servers:
        account = Account(server.settings.username, server.settings.site)
        for call in _calls(store, server.profile, links_per_call):
            yield _request(call, account, server)


def _calls(store: RowStore, profile: str | None, links_per_call: int) -> Iterator[Call]:
    after = -1
    while lanes := store.lanes(after, _PAGE, profile):
        after = lanes[-1][0]
        for lane, call in lanes:
            if call is not None:
                yield call
                continue
            while (found := store.take(lane, links_per_call)) is not None:
                yield found
                store.claim(found, time.time())


def _request(call: Call, account: Account, server: Server) -> dict[str, Any]:
    request = request_for(call, **account.speaking_for(call))
    return {
        **({} if server.profile is None else {"profile": server.profile}),
        "method": "POST",
        "url": f"{server.settings.base_url}{API_PATH}{request.command}",
        "headers": {"Content-Type": "application/json", server.settings.api_key_header: "***"},
        "body": json.loads(request.body),
    }


def by_server(homes: SettingsByProfile) -> Mapping[str, list[str]]:
    """The D3s of *homes* by base URL, each with its profiles; "" is for rows without one."""
    found: dict[str, list[str]] = {}
    for profile, settings in homes.items():
        found.setdefault(settings.base_url, []).append(profile or "")
    return found


def check_meant(similar: Similar, observer: RunObserver) -> bool:
    """Whether the rows are meant. Raises `LookAlikeError` where no one can be asked."""
    if not similar.count:
        return True
    agreed = observer.confirm(SendSimilarRows(similar))
    if agreed is None:
        raise similar.error()
    return agreed


def check_fresh(folder: RunFolder, allowed: Lines, observer: RunObserver) -> bool:
    """Whether rows that were sent from *folder* may be sent again. Raises `SettingsError` where no one can be asked."""
    count = folder.count_sent()
    if not count or allowed == ALL:
        return True
    agreed = observer.confirm(StartAnew(folder.folder, count))
    if agreed is None:
        sent = f"{count:,} row{' was' if count == 1 else 's were'} sent from {folder.folder}"
        raise SettingsError(
            f"{sent}; --fresh would send the same rows of the file again. To send only what is new, run it without"
            " --fresh. If they are meant to be in D3 twice: --fresh --allow-similar all",
            code="fresh",
        )
    return agreed


def similar_to_sent(
    examined: OpenJobFile,
    path: Path | None,
    servers: Servers,
    *,
    allow_duplicates: bool,
    allowed: Lines,
    observer: OperationObserver,
) -> Similar:
    """What `run` over the same file, with the run folder *path*, would stop for; nothing is kept of it.

    Where settings are missing, only what the run folder holds is known.
    """
    from d3async.errors import FolderHeldError  # noqa: PLC0415 - as above
    from d3async.journal.model import NOTHING_SIMILAR  # noqa: PLC0415 - as above
    from d3async.journal.sqlite.look_alikes import LookAlikeGuard  # noqa: PLC0415 - as above
    from d3async.journal.sqlite.run_folder import FILE, in_memory, open_folder  # noqa: PLC0415 - as above
    from d3async.operations.load import finished  # noqa: PLC0415 - as above

    there = path is not None and (path / FILE).is_file()
    own = servers.own_if_any()
    if not there and not _rows_to_compare(examined, own, observer):
        return NOTHING_SIMILAR
    try:
        folder = open_folder(path) if there and path is not None else in_memory()
    except FolderHeldError as error:
        observer.message(f"Not compared with rows that were sent before: {error.message}")
        return NOTHING_SIMILAR
    try:
        if finished(folder, examined, servers, own) is not None:
            return NOTHING_SIMILAR
        places = _stage(folder, examined, servers, own, allow_duplicates=allow_duplicates)
        with LookAlikeGuard(folder, places, tell=observer.message, change=False) as guard:
            return guard.find(allowed)
    finally:
        folder.abandon()


def _rows_to_compare(examined: OpenJobFile, own: Settings | None, observer: OperationObserver) -> bool:
    """Whether this user has sent rows to a D3 that the file may go to, from any run folder."""
    from d3async.journal.sqlite.look_alikes import knows_rows_of  # noqa: PLC0415 - as above

    if examined.routed:
        return knows_rows_of(None, observer.message)
    return own is not None and knows_rows_of(own.base_url, observer.message)


def _stage(
    folder: RunFolder, examined: OpenJobFile, servers: Servers, own: Settings | None, *, allow_duplicates: bool
) -> Mapping[str, Sequence[str]]:
    """Put the rows of the file into *folder* as a run would; the D3s they go to, as `by_server` gives them."""
    from d3async.journal.model import Selection  # noqa: PLC0415 - as above
    from d3async.operations.load import homes_of  # noqa: PLC0415 - as above

    stage = folder.stage()
    stage.add(examined)
    for _ in stage.duplicates(allow=allow_duplicates):
        pass
    places = by_server(homes_of(stage, servers, own))
    if None in stage.profiles() and own is None:
        places = {**places, folder.meta().get("base_url", ""): [""]}
    folder.adopt({})
    folder.begin(Selection(), now=0.0, facts={})
    return places
