"""The D3 commands that rows can be looked up with, by the keys that there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from d3async.credentials import how_to_set
from d3async.errors import SettingsError
from d3async.sansio.links import GET_INCIDENTS, GET_LINKED
from d3async.sansio.task_search import GET_LOGS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from d3async.settings import Settings

USING = {"get-incidents": GET_INCIDENTS, "get-linked-incidents": GET_LINKED, "logs": GET_LOGS}
FOR_LINKS = ("get-incidents", "get-linked-incidents")
FOR_TASKS = ("logs",)


def lookup_commands(settings: Settings, names: Sequence[str], using: Collection[str] = ()) -> tuple[str, ...]:
    """The commands among *names* (of `USING`) to read with: those of *using*, else all there is a usable key for.

    Raises `SettingsError` for one of *using* that has none.
    """
    wanted = [USING[name] for name in names if not using or name in using]
    keyless = [command for command in wanted if not _has_key(settings, command)]
    if using and keyless:
        raise SettingsError(how_to_set(keyless[0]), code="no_key")
    return tuple(command for command in wanted if command not in keyless)


def link_lookup_commands(settings: Settings, *, direct: bool = False) -> tuple[str, ...]:
    """The commands to read links with. *direct*: only those that tell a link from a way through other incidents.

    Raises `SettingsError`, naming what to set, when there is none.
    """
    names = FOR_LINKS[:1] if direct else FOR_LINKS
    found = lookup_commands(settings, names)
    if not found:
        raise SettingsError(how_to_set_any(names), code="no_key")
    return found


def how_to_set_any(names: Sequence[str]) -> str:
    """What to do when none of *names* has a key."""
    return "; or ".join(how_to_set(USING[name]) for name in names)


def _has_key(settings: Settings, command: str) -> bool:
    credential = settings.credentials.best(command)
    return credential is not None and not credential.problem
