"""Self-test of the way to D3: proxy, DNS, TCP, TLS, clock. No key is sent."""

from __future__ import annotations

import http.client
import queue
import socket
import ssl
import threading
import time
import urllib.request
from base64 import b64encode
from dataclasses import asdict, dataclass, replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

from d3async.config.setting_fields import is_loopback
from d3async.errors import SettingsError
from d3async.transport.http import HttpSettings, tls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from d3async.config.settings import Settings


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor: *state* "note" is neither good nor bad; *cure* says what to do."""

    check: str
    state: Literal["ok", "bad", "note"]
    text: str
    cure: str = ""

    def public(self) -> dict[str, str]:
        """For `--json`."""
        return asdict(self)

    def masked(self, mask: Callable[[str], str]) -> Check:
        """The same, with secrets as `***`."""
        return replace(self, text=mask(self.text), cure=mask(self.cure))


T = TypeVar("T")
PATIENCE = 10.0
_DAY = 86_400.0
_SOON = 21
_SKEW = 5.0
_CURES = {
    10: "the server's certificate has ended: its owner must renew it (or is this machine's clock wrong?)",
    18: "a self-signed certificate: get it from the server's owner and give --ca-bundle FILE (D3_CA_BUNDLE)",
    19: "a private authority: get its certificate and give --ca-bundle FILE (D3_CA_BUNDLE)",
    20: "a private authority, or the server leaves out a part of its chain: give --ca-bundle FILE (D3_CA_BUNDLE)",
    21: "a private authority, or the server leaves out a part of its chain: give --ca-bundle FILE (D3_CA_BUNDLE)",
    62: "the certificate is for another name: is the host in D3_BASE_URL the right one?",
    64: "the certificate is for another address: is the host in D3_BASE_URL the right one?",
}


@dataclass(frozen=True, slots=True)
class Way:
    """Where D3 is, and the proxy on the way to it, if any."""

    scheme: str
    host: str
    port: int
    path: str
    proxy: SplitResult | None

    @property
    def next_hop(self) -> tuple[str, int]:
        """The host that is connected to, and its port."""
        if self.proxy is None:
            return self.host, self.port
        return self.proxy.hostname or "", self.proxy.port or (443 if self.proxy.scheme == "https" else 80)


def of_network(settings: Settings, environ: Mapping[str, str]) -> Iterator[Check]:
    """Proxy, DNS, TCP, TLS and clock, until one of them fails."""
    way = way_to(settings.base_url)
    yield _of_proxy(way, environ)
    for check in (_of_dns, _of_tcp):
        found = check(way)
        yield found
        if found.state == "bad":
            return
    if way.proxy is not None and way.proxy.scheme == "https":
        yield Check("tls", "note", "not looked at: the proxy itself is reached by TLS")
        return
    yield from _of_server(way, settings)


def way_to(base_url: str) -> Way:
    """The way the operating system's settings (HTTPS_PROXY, NO_PROXY) give for *base_url*."""
    url = urlsplit(base_url)
    host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    proxy = None if urllib.request.proxy_bypass(f"{host}:{port}") else urllib.request.getproxies().get(url.scheme)
    return Way(url.scheme, host, port, url.path, urlsplit(proxy) if proxy else None)


def _of_proxy(way: Way, environ: Mapping[str, str]) -> Check:
    if way.proxy is None:
        exempt = "NO_PROXY names this host" if urllib.request.getproxies().get(way.scheme) else "direct"
        return Check("proxy", "note", f"none ({exempt})")
    user = "***@" if "@" in way.proxy.netloc else ""
    host, port = way.next_hop
    name = next((n for n in ("https_proxy", "HTTPS_PROXY", "http_proxy") if environ.get(n)), "the system's settings")
    return Check("proxy", "ok", f"{way.proxy.scheme}://{user}{host}:{port}  ({name})")


def _of_dns(way: Way) -> Check:
    host, port = way.next_hop
    try:
        found = within(PATIENCE, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError) as error:
        cure = "is D3_BASE_URL right? Is a VPN or a proxy (HTTPS_PROXY) needed?"
        return Check("dns", "bad", f"{host}: {_reason(error)}", cure)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    return Check("dns", "ok", f"{host} is {', '.join(addresses[:4])}")


def _of_tcp(way: Way) -> Check:
    began = time.monotonic()
    try:
        with socket.create_connection(way.next_hop, timeout=PATIENCE) as connection:
            peer = connection.getpeername()
    except OSError as error:
        cure = "a firewall, a wrong port, or the server is down"
        return Check("tcp", "bad", f"{way.next_hop[0]}:{way.next_hop[1]}: {_reason(error)}", cure)
    return Check("tcp", "ok", f"{peer[0]} port {peer[1]} answers in {(time.monotonic() - began) * 1000:.0f} ms")


def _of_server(way: Way, settings: Settings) -> Iterator[Check]:
    try:
        connection = _connection(way, settings)
        connection.connect()
    except SettingsError as error:
        yield Check("tls", "bad", error.message)
        return
    except ssl.SSLCertVerificationError as error:
        yield Check("tls", "bad", error.verify_message, _CURES.get(error.verify_code, "ask the server's owner"))
        return
    except (OSError, http.client.HTTPException) as error:
        yield Check("tls", "bad", _reason(error), "does this port speak TLS? Does a proxy or a firewall cut it off?")
        return
    try:
        yield _of_tls(connection.sock)
        yield _of_clock(connection, way.path, settings.jwt_lifetime)
    finally:
        connection.close()


def _connection(way: Way, settings: Settings) -> http.client.HTTPConnection:
    host, port = way.next_hop
    if way.scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=PATIENCE)
    files = {name: getattr(settings, name) for name in ("ca_bundle", "client_cert", "client_key")}
    context = tls(HttpSettings(settings.base_url, **files))
    connection = http.client.HTTPSConnection(host, port, timeout=PATIENCE, context=context)
    if way.proxy is not None:
        connection.set_tunnel(way.host, way.port, _proxy_headers(way.proxy))
    return connection


def _proxy_headers(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {b64encode(pair.encode()).decode()}"}


def _of_tls(connection: Any) -> Check:
    if not isinstance(connection, ssl.SSLSocket):
        here = is_loopback(connection.getpeername()[0])
        return Check("tls", "note", "none: http to this machine" if here else "none")
    certificate: Mapping[str, Any] = connection.getpeercert() or {}
    days = (ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()) / _DAY
    issuer = dict(pair for part in certificate.get("issuer", ()) for pair in part)
    by = issuer.get("organizationName") or issuer.get("commonName") or "an authority without a name"
    text = f"{connection.version()}, trusted chain, certificate by {by}, ends in {days:.0f} days"
    return Check("tls", "ok", text) if days >= _SOON else Check("tls", "note", text, "it should be renewed soon")


def _of_clock(connection: http.client.HTTPConnection, path: str, lifetime: float | None) -> Check:
    began = time.time()
    try:
        connection.request("HEAD", path or "/", headers={"Connection": "close"})
        stated = connection.getresponse().getheader("Date")
    except (OSError, http.client.HTTPException) as error:
        return Check("http", "bad", f"no answer to a HEAD: {_reason(error)}", "is this D3's port?")
    return clock(stated, (began + time.time()) / 2, lifetime)


def clock(stated: str | None, now: float, lifetime: float | None) -> Check:
    """Judge the server's `Date`, which is whole seconds, against *now* in Unix seconds."""
    try:
        skew = now - parsedate_to_datetime(stated or "").timestamp() - 0.5
    except ValueError:
        return Check("clock", "note", "the server does not say what time it has")
    if abs(skew) <= _SKEW:
        return Check("clock", "ok", "as the server's, within 5 s")
    text = f"this machine is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the server"
    breaks = lifetime is not None and abs(skew) >= lifetime / 2
    return Check("clock", "bad" if breaks else "note", text, "set the clock by NTP; signed tokens depend on it")


def within(patience: float, call: Callable[[], T]) -> T:
    """What *call* returns or raises, or TimeoutError after *patience* seconds; a name look-up knows no time-out."""
    answer: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put((True, call()))
        except Exception as error:  # noqa: BLE001 - handed to the caller, whatever it is
            answer.put((False, error))

    threading.Thread(target=ask, daemon=True).start()
    try:
        fine, what = answer.get(timeout=patience)
    except queue.Empty:
        raise TimeoutError("no answer in time") from None
    if not fine:
        raise what
    result: T = what
    return result


def _reason(error: Exception) -> str:
    strerror = getattr(error, "strerror", None)
    return strerror if isinstance(strerror, str) and strerror else str(error) or type(error).__name__
