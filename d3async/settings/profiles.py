"""Settings of the profiles that rows of a job file name, each complete in itself."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d3async.credentials import Hidden
from d3async.errors import SettingsError
from d3async.settings.model import Settings
from d3async.settings.profile import Config, load_config
from d3async.settings.sources import Collected, collect_profile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


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
