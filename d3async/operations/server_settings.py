"""The D3 servers of one operation, their settings, the commands to look up with; another D3 for a folder is refused."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from d3async.config.config_file import load_profile
from d3async.config.credentials import how_to_set
from d3async.config.settings import Profiles, Settings
from d3async.d3.linked_incidents import GET_INCIDENTS, GET_LINKED
from d3async.d3.task_search import GET_LOGS
from d3async.errors import SettingsError
from d3async.jobs.job import Problem
from d3async.journal.sqlite.reader import was_sent_to

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from d3async.config.config_file import Profile
    from d3async.d3.commands import Command
    from d3async.jobs.row_to_command import ProfileCheck
    from d3async.journal.sqlite.run_folder import RunFolder

    SettingsByProfile = Mapping[str | None, Settings]
    """Settings by profile; None is the run's own D3."""

_KEPT = 1000
_LISTED = 12
_NOT_OURS = "--map 'COLUMN=' leaves a column as it is"


@dataclass(frozen=True, slots=True)
class Server:
    """One D3 that rows go to, and what it is to be sent. *profile* None is the run's own."""

    profile: str | None
    settings: Settings
    commands: tuple[str, ...]
    rows: int
    requests: int

    @property
    def name(self) -> str:
        """What it is called where there are several."""
        return name_of(self.profile)


def name_of(profile: str | None) -> str:
    """What the D3 of *profile* is called where there are several."""
    return "(no profile)" if profile is None else profile


class Servers:
    """Settings by profile. *options* are the settings that were given, *environ* replaces the process's own.

    *ask_keys* asks a user for the keys of commands, where only these are missing.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        environ: Mapping[str, str] | None = None,
        *,
        ask_keys: Callable[[Sequence[str]], Mapping[str, object]] | None = None,
    ) -> None:
        self._options = options
        self._environ = environ
        self._ask_keys = ask_keys
        given = {name: value for name, value in options.items() if name not in {"profile", "config"}}
        self._profiles = Profiles(environ, config=options.get("config"), **given)

    def like(self, options: Mapping[str, Any]) -> Servers:
        """The same, with *options* where none were given."""
        return Servers(
            {**self._options, **{n: v for n, v in options.items() if self._options.get(n) is None}},
            self._environ,
            ask_keys=self._ask_keys,
        )

    def given(self) -> dict[str, Any]:
        """The settings that were given as options."""
        return {name: value for name, value in self._options.items() if value is not None}

    def own(self, needs: Sequence[str] = ()) -> Settings:
        """The D3 of rows without a profile. Raises SettingsError, naming what is missing."""
        try:
            return Settings.from_env(self._environ, needs=needs, **self._options)
        except SettingsError:
            if self._ask_keys is None:
                raise
        without = Settings.from_env(self._environ, **self._options)
        keyless = [command for command in needs if without.credentials.best(command) is None]
        return Settings.from_env(self._environ, needs=needs, api_keys=self._ask_keys(keyless), **self._options)

    def own_if_any(self) -> Settings | None:
        """As `own`; None where settings are missing, which rows that all name a profile do not need."""
        try:
            return self.own()
        except SettingsError:
            return None

    def of(self, profile: str | None, needs: Sequence[str] = ()) -> Settings:
        """The D3 of rows of *profile*. Raises SettingsError."""
        return self.own(needs) if profile is None else self._profiles.settings(profile, needs)

    def own_profile(self) -> Profile:
        """The profile in use for rows that name none; an empty one where none is. Raises SettingsError."""
        environ = os.environ if self._environ is None else self._environ
        return load_profile(self._options.get("config"), self._options.get("profile"), environ)

    def profile_names(self) -> tuple[str, ...]:
        """The profiles there are. Raises SettingsError."""
        return self._profiles.config.names()

    def route(self, own: str | None) -> ProfileCheck:
        """What judges the profiles of rows; *own* is the site of rows that name none, None where these go nowhere."""
        known: dict[tuple[str, type[Command]], str | Problem] = {}

        def judged(profile: str, command: type[Command]) -> str | Problem:
            found = known.get((profile, command))
            if found is None:
                if len(known) >= _KEPT:
                    known.clear()
                found = known[profile, command] = self._judged(profile, command, own)
            return found

        return judged

    def _judged(self, profile: str, command: type[Command], own: str | None) -> str | Problem:
        if not profile:
            cure = "name one, or set D3_BASE_URL, D3_USERNAME and D3_SITE for rows without"
            return Problem("profile", "", "", "is empty", cure) if own is None else own
        if not self._profiles.has(profile):
            return self._stranger(profile)
        found = self._profiles.collected(profile, [command.__name__])
        if found.problems:
            return Problem("profile", "", "", f"cannot be used: {'; '.join(found.problems)}")
        return str(found.values["site"])

    def _stranger(self, profile: str) -> Problem:
        config = self._profiles.config
        like, names = self._profiles.like(profile), config.names()
        message = f"is no profile of {config.path}"
        if like:
            return Problem("profile", "", "", f'{message}: did you mean "{like}"?', _NOT_OURS)
        more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
        has = f"it has: {', '.join(names[:_LISTED])}{more}" if names else "it has none"
        return Problem("profile", "", "", message, f"{has}; {_NOT_OURS}")


_CURE = "give another folder with -o, or start anew with --fresh."


def facts_of(homes: SettingsByProfile) -> dict[str, dict[str, str]]:
    """What a journal keeps of the profiles among *homes*: where each leads."""
    named = {name: settings for name, settings in homes.items() if name is not None}
    return {name: {"base_url": settings.base_url, "site": settings.site} for name, settings in named.items()}


def servers_of_profiles(meta: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """What the journal with this *meta* keeps of profiles."""
    found: dict[str, dict[str, str]] = json.loads(meta.get("profiles") or "{}")
    return found


def refuse_other_server(folder: RunFolder, own: Settings | None) -> None:
    """Raise `SettingsError` when rows without a profile would go to another D3 than before."""
    before = folder.meta().get("base_url")
    if before and own is not None and before != own.base_url:
        raise SettingsError(
            f"{folder.folder} holds a run against {before}, not {own.base_url}: {_CURE}", code="other_d3"
        )


def refuse_other_servers(folder: RunFolder, homes: SettingsByProfile) -> None:
    """Raise `SettingsError` when a profile leads elsewhere than before, or a D3 that rows were sent to has a new name.

    By a new name they would be new rows, and be sent once more.
    """
    meta = folder.meta()
    known: dict[str | None, str] = {name: home["base_url"] for name, home in servers_of_profiles(meta).items()}
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


def same_servers(meta: Mapping[str, str], servers: Servers, own: Settings | None) -> bool:
    """Whether every D3 of the journal with this *meta* is where it was."""
    if meta.get("base_url") and (own is None or (meta["base_url"], meta["site"]) != (own.base_url, own.site)):
        return False
    known = servers_of_profiles(meta)
    try:
        return facts_of({name: servers.of(name) for name in known}) == known
    except SettingsError:
        return False


def meta_of(homes: SettingsByProfile, meta: Mapping[str, str]) -> dict[str, str]:
    """What the journal is to keep of *homes*, beside what it knows of D3s that the file no longer names."""
    told = {name: meta.get(name, "") for name in ("base_url", "site")}
    if None in homes:
        told = {"base_url": homes[None].base_url, "site": homes[None].site}
    profiles = {**servers_of_profiles(meta), **facts_of(homes)}
    return {**told, "profiles": json.dumps(profiles)} if profiles else told


_EXPECTED_UNKNOWN_RATE = 20.0


def seconds(server: Server) -> float:
    """How long its limit makes one server take."""
    rate = server.settings.rate
    return server.requests / (0.98 * rate if rate else _EXPECTED_UNKNOWN_RATE)


USING = {"get-incidents": GET_INCIDENTS, "get-linked-incidents": GET_LINKED, "logs": GET_LOGS}
FOR_LINKS = ("get-incidents", "get-linked-incidents")
FOR_TASKS = ("logs",)


def lookup_commands(settings: Settings, names: Sequence[str], using: Collection[str] = ()) -> tuple[str, ...]:
    """The commands among *names* (of `USING`) to read with: those of *using*, else all that have a usable key.

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
