"""The URL of a database that shares a limit: a secret as a whole, its harmless parts are shown."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from d3async.credentials import Secret

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
