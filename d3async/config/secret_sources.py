"""Where a secret is said to be, and fetching it from there: an environment variable, a file, the keyring."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from d3async.credentials import LONGEST, Credential, Kind, Level, Secret, checked
from d3async.errors import SettingsError
from d3async.settings import keychain
from d3async.settings.values import at_home

if TYPE_CHECKING:
    from collections.abc import Mapping


class How(StrEnum):
    """What the value of a reference is; also the ending of its name in a profile."""

    PLAIN = ""
    ENV = "_env"
    FILE = "_file"
    KEYRING = "_keyring"


@dataclass(frozen=True, slots=True)
class Reference:
    """A credential not yet fetched. *value* is the secret itself or the name of the place; it is never printed."""

    kind: Kind
    command: str
    origin: str
    level: Level
    how: How
    value: Secret
    folder: Path
    problem: str = ""

    @property
    def slot(self) -> tuple[bool, Kind, str]:
        """What at most one reference can fill; an option stands above all others."""
        return (self.level is Level.OPTION, self.kind, self.command)

    @property
    def blank(self) -> Credential:
        """The credential without its secret."""
        return Credential(self.kind, self.command, self.origin, self.level, Secret(""), self.problem)


def fetch(reference: Reference, environ: Mapping[str, str]) -> Credential:
    """Follow *reference*; a credential that cannot be had carries the reason as its problem."""
    blank = reference.blank
    if blank.problem:
        return blank
    try:
        secret = secret_at(reference.how, reference.value, reference.folder, environ)
    except SettingsError as error:
        return replace(blank, problem=f"{blank.origin}: {error.message}")
    return checked(replace(blank, secret=secret))


def secret_at(how: How, value: Secret, folder: Path, environ: Mapping[str, str]) -> Secret:
    """The secret that *value* is, or is the place of; paths are relative to *folder*. Raises SettingsError."""
    match how:
        case How.ENV:
            return _from_variable(value.reveal(), environ)
        case How.FILE:
            return _from_file(folder, value.reveal())
        case How.KEYRING:
            return keychain.fetch(value.reveal())
        case _:
            return value


def _from_variable(name: str, environ: Mapping[str, str]) -> Secret:
    if not environ.get(name, "").strip():
        raise SettingsError(f"the environment variable {name} is not set")
    return Secret(environ[name])


def _from_file(folder: Path, name: str) -> Secret:
    path = folder / at_home(Path(name))
    try:
        with path.open("rb") as file:
            return Secret(file.read(LONGEST).decode("utf-8", errors="replace"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "that is no file name"
        raise SettingsError(f"the file {path} cannot be read ({reason})") from None
