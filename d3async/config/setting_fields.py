"""Every setting that is no secret: its names, its default, how its text is read; base URLs cleaned."""

from __future__ import annotations

import ipaddress
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from d3async.config.database_urls import limit_url

if TYPE_CHECKING:
    from collections.abc import Callable

_SCHEME = re.compile(r"(https?):/+", re.IGNORECASE)
_API = re.compile(r"/api/command(?=/|$)", re.IGNORECASE)
_DEFAULT_PORTS = {"https": 443, "http": 80}


def clean_base_url(text: object) -> str:
    """*text* without `/api/Command/…`, doubled and trailing slashes, default port. ValueError says what is wrong.

    Source of the forms it understands: https://docs.d3security.com/api-docs/Working-version/introduction-to-d3-command-api
    """
    if not isinstance(text, str) or not text.strip():
        raise ValueError("is empty: it looks like https://d3.example.com/ce_site/VSOC")
    scheme, host, port, path = _parts(text.strip())
    if scheme == "http" and not is_loopback(host):
        raise ValueError("is http://, which would send the key in clear: use https:// (http is for this machine alone)")
    name = f"[{host}]" if ":" in host else host
    ending = f":{port}" if port not in {None, _DEFAULT_PORTS[scheme]} else ""
    return f"{scheme}://{name}{ending}{_site_path(path)}"


def is_loopback(host: str) -> bool:
    """Whether *host* is this machine: localhost, 127.0.0.0/8, ::1."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _parts(text: str) -> tuple[str, str, int | None, str]:
    if not text.isprintable() or any(letter in text for letter in ' \\"<>'):
        raise ValueError("has a blank, a backslash, a quote or a control character in it")
    begin = _SCHEME.match(text)
    if not begin:
        raise ValueError("does not begin with https://")
    scheme = begin[1].lower()
    try:
        url = urlsplit(f"{scheme}://{text[begin.end() :]}")
        host, port = (url.hostname or "").lower(), url.port
    except ValueError:
        raise ValueError("has a host or a port that cannot be read") from None
    if not host:
        raise ValueError("has no host")
    if "@" in url.netloc:
        raise ValueError("has a user or password in it: leave them out")
    if url.query or url.fragment:
        raise ValueError("has a part after ? or #: leave it out")
    return scheme, host, port, url.path


def _site_path(path: str) -> str:
    single = re.sub(r"/{2,}", "/", path)
    return _API.split(single, maxsplit=1)[0].rstrip("/")


REQUIRED = object()
_SHORTEST_LIFETIME = 10
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_SWITCHED = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
_OUR_HEADERS = frozenset(
    {"accept", "accept-encoding", "connection", "content-length", "content-type", "cookie", "d3jwt", "expect", "host"}
    | {"te", "trailer", "transfer-encoding", "upgrade", "user-agent"}
)


def seconds(value: object) -> float:
    """`30s`, `2m`, `1h30m`, `500ms` or a plain number of seconds, as seconds. ValueError says what would be right."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _finite(float(value))
    text = str(value).strip().lower()
    if _DURATION.fullmatch(text):
        return _finite(sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text)))
    return _finite(_number(text, "is no duration: write 30s, 2m, 1h30m, 500ms or a number of seconds"))


def _positive_seconds(value: object) -> float:
    number = seconds(value)
    if number <= 0:
        raise ValueError("must be longer than 0")
    return number


def _waiting(value: object) -> float:
    number = seconds(value)
    if number < 0:
        raise ValueError("must not be below 0")
    return number


def _lifetime(value: object) -> float:
    number = seconds(value)
    if number < _SHORTEST_LIFETIME:
        raise ValueError(f"must be at least {_SHORTEST_LIFETIME} s, so that clocks may differ a little")
    return number


def _rate(value: object) -> float | None:
    if value is None or (isinstance(value, str) and value.strip().lower() == "auto"):
        return None
    number = _number(value, 'is no rate: write a number of requests a second, or "auto"')
    if not (0 < number < math.inf):
        raise ValueError("must be above 0")
    return number


def _count(value: object) -> int:
    number = _number(value, "is no whole number")
    if number != int(number) or number < 1:
        raise ValueError("must be a whole number, 1 or more")
    return int(number)


def _number(value: object, complaint: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(complaint)  # noqa: TRY004 - one exception for every setting that cannot be read
    try:
        number = float(value)
    except ValueError:
        raise ValueError(complaint) from None
    return _finite(number)


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError("must be finite")
    return number


def _words(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text")  # noqa: TRY004 - one exception for every setting that cannot be read
    if not value.strip():
        raise ValueError("is empty")
    if not value.strip().isprintable():
        raise ValueError("has a control character in it")
    return value.strip()


def _header_name(value: object) -> str:
    name = _words(value)
    if not _TOKEN.fullmatch(name):
        raise ValueError("is no header name: letters, digits and dashes")
    if name.lower() in _OUR_HEADERS:
        raise ValueError("is a header with a meaning of its own: the key needs another one")
    return name


def _switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text not in _SWITCHED:
        raise ValueError("must be yes or no")
    return _SWITCHED[text]


def _file(value: object) -> Path:
    path = at_home(Path(_words(str(value))))
    if not path.is_file():
        raise ValueError("names a file that is not there")
    return path


def at_home(path: Path) -> Path:
    """*path* with `~` written out where that is possible."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting; its variable and its option follow from its field. No option takes the value of a *secret* one."""

    field: str
    read: Callable[[Any], Any]
    default: Any
    secret: bool = False

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"D3_{self.field.upper()}"

    @property
    def option(self) -> str:
        """The option that sets it."""
        return "--" + self.field.replace("_", "-") + ("-file" if self.secret else "")


SETTINGS = (
    Setting("base_url", clean_base_url, REQUIRED),
    Setting("username", _words, REQUIRED),
    Setting("site", _words, REQUIRED),
    Setting("rate", _rate, 50.0),
    Setting("concurrency", _count, 32),
    Setting("timeout", _positive_seconds, 60.0),
    Setting("max_attempts", _count, 4),
    Setting("max_wait", _waiting, 300.0),
    Setting("max_outage", _waiting, 900.0),
    Setting("api_key_header", _header_name, "d3key"),
    Setting("jwt_lifetime", _lifetime, None),
    Setting("ca_bundle", _file, None),
    Setting("client_cert", _file, None),
    Setting("client_key", _file, None),
    Setting("limit_url", limit_url, None, secret=True),
    Setting("share_limit", _switch, True),  # noqa: FBT003 - the default of a setting
)
BY_FIELD = {setting.field: setting for setting in SETTINGS}
FILES = frozenset({"ca_bundle", "client_cert", "client_key"})


def read(setting: Setting, value: object) -> Any:
    """*value* as the type the setting has; an optional one may stay None. ValueError says what is wrong."""
    if value is None and setting.default is None:
        return None
    return setting.read(value)
