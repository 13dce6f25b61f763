"""The settings of one D3, validated and frozen, with where each came from; those of many profiles; tenants."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d3async.config.config_file import Config, load_config
from d3async.config.credentials import Credentials, Hidden, Secret
from d3async.config.precedence import Collected, collect, collect_profile
from d3async.config.setting_fields import SETTINGS, read
from d3async.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from d3async.config.database_urls import LimitUrl


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What it takes to talk to one D3. Durations are seconds, rates requests a second.

    *rate* None finds the rate by itself; *jwt_lifetime* None signs tokens that do not end. Raises SettingsError for a
    value that cannot be used. Credentials are absent from `repr`, `public()` and pickles. *limit_url* is the database
    (a text or a `Secret`) that shares the limit with other machines; *share_limit* False does not share it,
    not even with other programs of this user on this host, as they do through a file.
    """

    base_url: str
    username: str
    site: str
    rate: float | None = 50.0
    concurrency: int = 32
    timeout: float = 60.0
    max_attempts: int = 4
    max_wait: float = 300.0
    max_outage: float = 900.0
    api_key_header: str = "d3key"
    jwt_lifetime: float | None = None
    ca_bundle: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    limit_url: LimitUrl | None = field(default=None, repr=False)
    share_limit: bool = True
    profile: str | None = None
    credentials: Credentials = field(default=Credentials(), repr=False)
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        problems = []
        for setting in SETTINGS:
            try:
                object.__setattr__(self, setting.field, read(setting, getattr(self, setting.field)))
            except ValueError as error:
                problems.append(f"{setting.field} {error}")
        if self.client_key and not self.client_cert:
            problems.append("client_key needs client_cert")
        if problems:
            raise SettingsError("; ".join(problems), code="settings")
        object.__setattr__(self, "origins", dict(self.origins))

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        profile: str | None = None,
        config: Path | str | None = None,
        needs: Iterable[str] = (),
        **overrides: Any,
    ) -> Settings:
        """Settings from *overrides*, then the environment, then a profile of config.toml, then the defaults.

        *overrides* are the fields of this class, and `api_key`, `jwt`, `jwt_secret` (each also as `…_file`, a path,
        and as `…s`, a mapping from D3's command name), and `limit_url_file`; None means not given. *needs* names
        commands that must have a credential. Raises SettingsError with everything that is missing or
        wrong in one message.
        """
        environ, overrides = Hidden(os.environ if environ is None else environ), Hidden(overrides)  # type: ignore[assignment]
        path = None if config is None else Path(config)
        found = collect(environ, profile=profile, config=path, needs=tuple(needs), options=overrides)  # type: ignore[arg-type]
        if found.problems:
            raise SettingsError("\n".join(found.problems), code="settings")
        name = found.profile.name or None
        return cls(**found.values, profile=name, credentials=found.credentials, origins=found.origins)

    def public(self) -> dict[str, object]:
        """Every setting but the credentials, ready for JSON; *rate* None is "auto"."""
        shown = {setting.field: getattr(self, setting.field) for setting in SETTINGS}
        shown["rate"] = "auto" if self.rate is None else self.rate
        return {
            "profile": self.profile,
            **{name: str(value) if isinstance(value, (Path, Secret)) else value for name, value in shown.items()},
        }


class Profiles:
    """The profiles of one config.toml, read when the first is asked for.

    Where rows go and as whom, and every key, comes from their profile alone: neither a variable nor an option meant
    for one D3 tells another D3. How fast and how patiently (rate, concurrency, timeout, max_attempts, max_wait,
    jwt_lifetime, ca_bundle): option, then profile, then environment, then default.
    """

    def __init__(
        self, environ: Mapping[str, str] | None = None, *, config: Path | str | None = None, **overrides: Any
    ) -> None:
        self._environ = Hidden(os.environ if environ is None else environ)
        self._path = None if config is None else Path(config)
        self._overrides = Hidden(overrides)
        self._config: Config | None = None

    @property
    def config(self) -> Config:
        """The config file. Raises SettingsError when it cannot be used."""
        if self._config is None:
            self._config = load_config(self._path, self._environ)
        return self._config

    def has(self, name: str) -> bool:
        """Whether there is a profile *name*; a name that cannot be typed into a cell is none."""
        return name.isprintable() and name in self.config.names()

    def like(self, name: str) -> str:
        """The profile that was perhaps meant by *name*; "" where none is near."""
        near = {known.casefold(): known for known in self.config.names()}
        found = difflib.get_close_matches(name.casefold(), near, n=1)
        return near[found[0]] if found else ""

    def collected(self, name: str, needs: Iterable[str] = ()) -> Collected:
        """What the profile *name* says, with its problems and with where each value came from."""
        return collect_profile(self.config.profile(name), self._environ, needs=needs, options=self._overrides)

    def settings(self, name: str, needs: Iterable[str] = ()) -> Settings:
        """The settings of rows that name *name*, with a usable key for each command of *needs*.

        Raises SettingsError with everything that is missing or wrong.
        """
        found = self.collected(name, needs) if self.has(name) else None
        if found is None:
            raise SettingsError(f'there is no profile "{name}" in {self.config.path}', code="settings")
        if found.problems:
            raise SettingsError("\n".join(found.problems), code="settings")
        return Settings(**found.values, profile=name, credentials=found.credentials, origins=found.origins)


_LONGEST = 120
"""Letters: procrastinate has room for so many, and our prefix, in the name of a queue."""


def tenant_names(profiles: Profiles) -> tuple[str, ...]:
    """The names of *profiles*, in the file's order. Raises `SettingsError` where one is too long for a queue."""
    names = profiles.config.names()
    for name in names:
        if len(name) > _LONGEST:
            message = (
                f"{profiles.config.path}: the name {name[:20]}… has more than {_LONGEST} letters, too many for a fleet"
            )
            raise SettingsError(message, code="config")
    return names
