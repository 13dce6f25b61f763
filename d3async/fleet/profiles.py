"""Tenants are profiles of config.toml: which there are, and the settings of each, from its profile alone."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

from d3async.errors import SettingsError
from d3async.settings import Settings
from d3async.settings.profile import config_path, load_profile
from d3async.settings.references import How

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_FOR_ALL = frozenset({"D3_CONFIG", "D3_CA_BUNDLE", "D3_CLIENT_CERT", "D3_CLIENT_KEY"})
_LONGEST = 125
"""Letters of a tenant's name: procrastinate's queues have room for so many, and "d3:"."""


def tenant_names(config: Path | None, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The profiles there are, in the file's order; none where there is no config file. Raises `SettingsError`."""
    path = config_path(config, environ)
    if not path.exists():
        if config is not None or environ.get("D3_CONFIG"):
            raise SettingsError(f"{path} is not there; --config and D3_CONFIG say where it is", code="config")
        return ()
    load_profile(path, None, _without_choice(environ))  # says what is wrong with the file, if anything is
    names = tuple(tomllib.loads(path.read_text("utf-8-sig")).get("profiles", {}))
    for name in names:
        if len(name) > _LONGEST or not name.isprintable():
            raise SettingsError(f"{path}: a profile of a fleet has a name of at most {_LONGEST} letters", code="config")
    return names


def tenant_settings(name: str, config: Path | None, environ: Mapping[str, str], needs: Iterable[str] = ()) -> Settings:
    """The settings of tenant *name*, with a key for each command of *needs*. Raises `SettingsError`.

    Variables that say where, who or with which key are left out of account unless the profile names them: one of them
    would stand above every profile and speak to one D3 for all tenants, or to a D3 with another's key.
    """
    profile = load_profile(config_path(config, environ), name, _without_choice(environ))
    named = {reference.value.reveal() for reference in profile.references() if reference.how is How.ENV}
    own = {key: value for key, value in environ.items() if not key.startswith("D3_") or key in _FOR_ALL | named}
    return Settings.from_env(own, profile=name, config=profile.path, needs=needs)


def _without_choice(environ: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in environ.items() if key != "D3_PROFILE"}
