"""URLs of the databases of a shared limit and of a fleet, whose passwords are never shown."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from d3async.config.credentials import Secret
from d3async.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SCHEMES = frozenset({"postgresql", "postgres"})
_NO_PERCENT = re.compile("%(?!(?!00)[0-9a-fA-F]{2})")


class LimitUrl(Secret):
    """`postgresql://user:password@host:5432/name`, shown as `postgresql://host:5432/name`."""

    __slots__ = ()

    def __str__(self) -> str:
        return shown(self.reveal())

    def __repr__(self) -> str:
        return f"'{self}'"


def limit_url(value: object) -> LimitUrl:
    """*value* as the URL of a database. ValueError says what is wrong, and nothing of the value."""
    if not isinstance(value, (str, Secret)):
        raise ValueError("must be text")  # noqa: TRY004 - one exception for every setting that cannot be read
    url = LimitUrl(value)
    if not url:
        raise ValueError("is empty")
    if not url.reveal().isprintable() or " " in url.reveal():
        raise ValueError("has a blank or a control character in it: was it copied whole and alone?")
    if shown(url.reveal()) == "":
        raise ValueError("is no database that can share a limit: it looks like postgresql://user@host/name")
    if why := misread(url.reveal()):
        raise ValueError(why)
    return url


def misread(url: str) -> str:
    """Why the driver would take a part of the password for something else, and tell it; "" where it would not."""
    parts = urlsplit(url)
    if "@" in parts.path or parts.netloc.count("@") > 1:
        return "has an @, or a / before it, in its user or password: write @ as %40, / as %2F"
    if _NO_PERCENT.search(url):
        return "has a % without two hexadecimal digits behind it: write % as %25"
    return ""


def shown(url: str) -> str:
    """*url* without user, password and parameters; "" where it is none of ours."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return ""
    if parts.scheme not in _SCHEMES:
        return ""
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}{'' if port is None else f':{port}'}{parts.path}"


VARIABLE = "D3_FLEET_URL"
_EXTRA = frozenset({"procrastinate", "prometheus_client", "psycopg", "psycopg_pool"})
"""Packages of the extra `fleet`."""
_LONGEST = 4096
_LIVENESS = {
    "connect_timeout": "5", "keepalives_idle": "5", "keepalives_interval": "2", "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}  # fmt: skip
"""Seconds, the last one milliseconds: a network that is cut would else be waited for a quarter of an hour."""
_FORM = "postgresql://user@host:5432/database"
_CURE = f"give --fleet {_FORM}, or set {VARIABLE}, or {VARIABLE}_FILE to a file that holds it"


@dataclass(frozen=True, slots=True)
class FleetUrl:
    """A PostgreSQL. *url* is for the driver alone; `str()` leaves the password out."""

    url: Secret

    @property
    def conninfo(self) -> str:
        """What the driver is given: the URL, and how soon a connection counts as dead where it does not say."""
        from psycopg.conninfo import conninfo_to_dict, make_conninfo  # noqa: PLC0415 - to read the URL needs no driver

        told = {name: str(value) for name, value in conninfo_to_dict(self.url.reveal()).items()}
        return make_conninfo("", **(_LIVENESS | told))

    def __str__(self) -> str:
        """`postgresql://user@host:5432/database`."""
        parts = urlsplit(self.url.reveal())
        user, _, place = parts.netloc.rpartition("@")
        name = user.partition(":")[0]
        return f"postgresql://{name}{'@' if name else ''}{place}{parts.path}"

    def mask(self, text: str) -> str:
        """*text* without the password, should a driver ever tell it."""
        for password in self._passwords():
            text = text.replace(password, "***")
        return text

    def _passwords(self) -> list[str]:
        parts = urlsplit(self.url.reveal())
        told = [parts.password or "", *parse_qs(parts.query).get("password", [])]
        return [form for text in told for form in (text, unquote(text)) if form]


def find(option: str | None, environ: Mapping[str, str]) -> FleetUrl | None:
    """The fleet that *option*, else the environment, names; None where nothing does. Raises `SettingsError`."""
    if option:
        return _read(option, "--fleet")
    if environ.get(VARIABLE, "").strip():
        return _read(environ[VARIABLE], VARIABLE)
    name = environ.get(f"{VARIABLE}_FILE", "").strip()
    return _read(_from_file(Path(name)), f"{VARIABLE}_FILE") if name else None


def needed(option: str | None, environ: Mapping[str, str]) -> FleetUrl:
    """As `find`; raises `SettingsError` where nothing names a fleet."""
    found = find(option, environ)
    if found is None:
        raise SettingsError(f"Which fleet? {_CURE}", code="fleet")
    return found


def _read(text: str, origin: str) -> FleetUrl:
    text = text.strip()
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"postgresql", "postgres"} and (parts.port is None or parts.port)
    except ValueError:
        good = False
    if not good or not text.isprintable():
        # the text itself may hold a password
        raise SettingsError(f"{origin} is no URL of a PostgreSQL: it looks like {_FORM}", code="fleet")
    if why := misread(text):
        raise SettingsError(f"{origin} {why}", code="fleet")
    return FleetUrl(Secret(text))


def _from_file(path: Path) -> str:
    try:
        with path.expanduser().open(encoding="utf-8") as file:
            return file.read(_LONGEST)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise SettingsError(f"{VARIABLE}_FILE: {path} cannot be read ({reason})", code="fleet") from None


@contextmanager
def installed() -> Iterator[None]:
    """A block that needs the extra `fleet`. Raises `SettingsError` with how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        raise SettingsError("A fleet needs more than the core: pip install 'd3async[fleet]'", code="extra") from None


def fleet_address(option: str | None) -> FleetUrl:
    """The fleet that `--fleet` or the environment names. Raises `SettingsError` where none does."""
    return needed(option, os.environ)


def fleet_meant(target: Path | None, option: str | None) -> FleetUrl | None:
    """The fleet that a command about *target* is about; None where it is about a run folder.

    `--fleet` says so, or the environment where *target* is nothing that is here. Raises `SettingsError`.
    """
    if option is None and target is not None and target.exists():
        return None
    return find(option, os.environ)


def fleet_words(option: str | None, address: FleetUrl) -> str:
    """What is to be typed behind a command to reach the same fleet: nothing where the environment says it."""
    return f" --fleet {address}" if option else ""
