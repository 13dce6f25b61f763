"""Rows that look like rows sent before: may they be sent? What `run` would find in a file that is only checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from d3async.errors import SettingsError
from d3async.operations.observer import SendSimilarRows, StartAnew
from d3async.sansio.look_alikes import ALL

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from d3async.cli.examined import Examined
    from d3async.cli.servers import Homes, Servers
    from d3async.journal.similar_rows import Similar
    from d3async.journal.sqlite import RunFolder
    from d3async.operations.observer import Observer, RunObserver
    from d3async.sansio.look_alikes import Lines


def by_server(homes: Homes) -> Mapping[str, list[str]]:
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
    examined: Examined,
    path: Path | None,
    servers: Servers,
    *,
    allow_duplicates: bool,
    allowed: Lines,
    observer: Observer,
) -> Similar:
    """What `run` over the same file, with the run folder *path*, would stop for; nothing is kept of it.

    Where settings are missing, only what the run folder holds is known.
    """
    from d3async.cli.loading import finished, homes_of  # noqa: PLC0415 - as above
    from d3async.errors import FolderHeldError  # noqa: PLC0415 - as above
    from d3async.journal.look_alike_guard import LookAlikeGuard, knows_any  # noqa: PLC0415 - as above
    from d3async.journal.similar_rows import NOTHING_SIMILAR  # noqa: PLC0415 - as above
    from d3async.journal.sqlite import FILE, Selection, in_memory, open_folder  # noqa: PLC0415 - as above

    there = path is not None and (path / FILE).is_file()
    if not there and not knows_any(observer.message):
        return NOTHING_SIMILAR
    try:
        folder = open_folder(path) if there and path is not None else in_memory()
    except FolderHeldError as error:
        observer.message(f"Not compared with rows that were sent before: {error.message}")
        return NOTHING_SIMILAR
    try:
        own = servers.own_if_any()
        if finished(folder, examined, servers, own) is not None:
            return NOTHING_SIMILAR
        stage = folder.stage()
        stage.add(examined)
        for _ in stage.duplicates(allow=allow_duplicates):
            pass
        places = by_server(homes_of(stage, servers, own))
        if None in stage.profiles() and own is None:
            places = {**places, folder.meta().get("base_url", ""): [""]}
        folder.adopt({})
        folder.begin(Selection(), now=0.0, facts={})
        with LookAlikeGuard(folder, places, tell=observer.message, change=False) as guard:
            return guard.find(allowed)
    finally:
        folder.abandon()
