"""Which requests are answered, and the headers of every answer: other pages, names and ports get nothing."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from d3async.web.session import Session

COOKIE = "d3async"
ENTRY = "enter"
NAMES = ("127.0.0.1", "localhost")
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Referrer-Policy": "same-origin",  # not no-referrer: browsers then send "Origin: null" with our own forms
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_READING = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Asked:
    """What of a request decides whether it is answered; "" for a header that it does not have."""

    method: str
    path: str
    host: str
    origin: str
    fetch_site: str
    cookie: str


def refusal(asked: Asked, session: Session, port: int) -> str:
    """Why a request to the server at *port* is refused, in words for its user; "" where it is answered.

    The page that takes the one-time token is reached from outside and has no cookie yet: only the host counts for it.
    """
    if asked.host.casefold() not in {f"{name}:{port}" for name in NAMES}:
        return f"This page is reached as 127.0.0.1:{port} only."
    if asked.method not in _READING and asked.origin != f"http://{asked.host}":
        return "Wrong origin: no page of d3async sent this."
    if asked.path.startswith(f"{session.path}{ENTRY}/"):
        return ""
    if asked.fetch_site not in {"", "same-origin", "none"}:
        return "Wrong origin: another page asked for this one."
    if not (
        asked.path.startswith(session.path) and hmac.compare_digest(asked.cookie.encode(), session.secret.encode())
    ):
        return NOT_KNOWN
    return ""


NOT_KNOWN = (
    "This browser is not known here. Open the address that `d3async web` printed; if it was used already,"
    " start `d3async web` again: it prints a new one."
)


def guard(session: Session, port: Callable[[], int]) -> Callable[..., Awaitable[web.StreamResponse]]:
    """The middleware that refuses. *port* gives the one that is served."""

    @web.middleware
    async def middleware(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        asked = Asked(
            method=request.method,
            path=request.path,
            host=request.headers.get("Host", ""),
            origin=request.headers.get("Origin", ""),
            fetch_site=request.headers.get("Sec-Fetch-Site", ""),
            cookie=request.cookies.get(COOKIE, ""),
        )
        if why := refusal(asked, session, port()):
            return web.Response(status=403, text=f"{why}\n")
        return await handler(request)

    return middleware


async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Give every answer `HEADERS`, those of aiohttp's own errors too; for `Application.on_response_prepare`."""
    response.headers.update(HEADERS)
