"""The URL of a database that shares a limit: a secret as a whole, its harmless parts are shown."""

from __future__ import annotations

from urllib.parse import urlsplit

from d3async.credentials import Secret

_SCHEMES = frozenset({"postgresql", "postgres"})


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
    return url


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
