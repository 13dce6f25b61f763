"""One run folder, one name for each D3: where its rows went, and whether they still go there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from d3async.cli.servers import name_of
from d3async.errors import SettingsError
from d3async.journal.counts import was_sent_to

if TYPE_CHECKING:
    from collections.abc import Mapping

    from d3async.cli.servers import Homes, Servers
    from d3async.journal.sqlite import RunFolder
    from d3async.settings import Settings

_CURE = "give another folder with -o, or start anew with --fresh."


def facts_of(homes: Homes) -> dict[str, dict[str, str]]:
    """What a journal keeps of the profiles among *homes*: where each leads."""
    named = {name: settings for name, settings in homes.items() if name is not None}
    return {name: {"base_url": settings.base_url, "site": settings.site} for name, settings in named.items()}


def known_homes(meta: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """What the journal with this *meta* keeps of profiles."""
    found: dict[str, dict[str, str]] = json.loads(meta.get("profiles") or "{}")
    return found


def check_own(folder: RunFolder, own: Settings | None) -> None:
    """Raise `SettingsError` when rows without a profile would go to another D3 than before."""
    before = folder.meta().get("base_url")
    if before and own is not None and before != own.base_url:
        raise SettingsError(
            f"{folder.folder} holds a run against {before}, not {own.base_url}: {_CURE}", code="other_d3"
        )


def check_homes(folder: RunFolder, homes: Homes) -> None:
    """Raise `SettingsError` when a profile leads elsewhere than before, or a D3 that rows were sent to has a new name.

    By a new name they would be new rows, and be sent once more.
    """
    meta = folder.meta()
    known: dict[str | None, str] = {name: home["base_url"] for name, home in known_homes(meta).items()}
    for name, before in known.items():
        if name in homes and homes[name].base_url != before:
            now = homes[name].base_url
            raise SettingsError(
                f'{folder.folder} holds rows of the profile "{name}" at {before}, not {now}: {_CURE}', code="other_d3"
            )
    if meta.get("base_url"):
        known[None] = meta["base_url"]
    for name in homes.keys() - known.keys():
        for other, place in known.items():
            if place == homes[name].base_url and was_sent_to(folder.db, other):
                raise SettingsError(
                    f"{folder.folder} holds rows sent to {place} as {name_of(other)}; as {name_of(name)} they would be"
                    f" sent there once more: keep to one name in the file, or {_CURE}",
                    code="other_name",
                )


def same_homes(meta: Mapping[str, str], servers: Servers, own: Settings | None) -> bool:
    """Whether every D3 of the journal with this *meta* is where it was."""
    if meta.get("base_url") and (own is None or (meta["base_url"], meta["site"]) != (own.base_url, own.site)):
        return False
    known = known_homes(meta)
    try:
        return facts_of({name: servers.of(name) for name in known}) == known
    except SettingsError:
        return False


def meta_of(homes: Homes, meta: Mapping[str, str]) -> dict[str, str]:
    """What the journal is to keep of *homes*, beside what it knows of D3s that the file no longer names."""
    told = {name: meta.get(name, "") for name in ("base_url", "site")}
    if None in homes:
        told = {"base_url": homes[None].base_url, "site": homes[None].site}
    profiles = {**known_homes(meta), **facts_of(homes)}
    return {**told, "profiles": json.dumps(profiles)} if profiles else told
