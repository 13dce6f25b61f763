"""Failures of the wire in our words: the class of an exception only names it, whether it was sent decides."""

from __future__ import annotations

import errno
import ssl
from dataclasses import replace

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from d3async.sansio.protocol import Broken

WIRE_ERRORS = (aiohttp.ClientError, HttpProcessingError, TimeoutError, OSError, ssl.SSLError, ValueError)
"""What a server or a network can make of a request."""


def broken(error: Exception, *, sent: bool, status: int | None = None) -> Broken:
    """The failure *error*, in our words. *status* is the one an answer began with."""
    if sent:
        return replace(_lost(error), status=status)
    code, message = next(
        ((code, text) for kinds, code, text in _BEFORE if isinstance(error, kinds)),
        ("connect_failed", "The request could not be sent"),
    )
    if code == "connect_failed" and _errno(error) == errno.ECONNREFUSED:
        code, message = "refused", "Connection refused"
    return Broken(sent=False, code=code, message=_sentence(message, error))


_BEFORE: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str, str], ...] = (
    (aiohttp.ClientConnectorDNSError, "dns", "The name cannot be resolved"),
    (aiohttp.ClientSSLError, "tls", "No trusted TLS connection"),
    (aiohttp.ClientProxyConnectionError, "proxy", "The proxy cannot be reached"),
    (aiohttp.ClientHttpProxyError, "proxy", "The proxy refuses"),
    (TimeoutError, "connect_timeout", "No connection in time"),
    (aiohttp.InvalidURL, "bad_url", "The URL cannot be used"),
)


def _lost(error: Exception) -> Broken:
    if isinstance(error, TimeoutError):
        return Broken(sent=True, code="read_timeout", message="No whole answer came in time.")
    if isinstance(error, aiohttp.ClientPayloadError):
        return Broken(sent=True, code="cut_answer", message=_sentence("The answer was cut off", error))
    if isinstance(error, aiohttp.ClientResponseError | HttpProcessingError | ValueError):
        return Broken(sent=True, code="bad_response", message=_sentence("The answer is not HTTP", error))
    return Broken(sent=True, code="connection_lost", message=_sentence("The connection was lost after sending", error))


def _errno(error: BaseException) -> int | None:
    """The operating system's number, also from behind several addresses tried at once."""
    inner = getattr(error, "os_error", error)
    if isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    return inner.errno if isinstance(inner, OSError) else None


def _sentence(what: str, error: Exception) -> str:
    detail = " ".join(str(error).split())[:200]
    return f"{what}: {detail}." if detail else f"{what}."
