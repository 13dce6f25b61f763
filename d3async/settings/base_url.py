"""D3's base URL, up to and including the site path, out of whatever was pasted."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

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
