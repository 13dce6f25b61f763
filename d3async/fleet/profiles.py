"""Tenants are profiles of config.toml: which there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from d3async.errors import SettingsError

if TYPE_CHECKING:
    from d3async.settings import Profiles

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
