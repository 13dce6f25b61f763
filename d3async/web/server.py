"""The server behind the page: 127.0.0.1 only, entered once with a token, ends when it was not used for long."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from d3async.errors import SettingsError
from d3async.web import check, columns, plan, results, run, start
from d3async.web.child import Children
from d3async.web.guard import COOKIE, ENTRY, NOT_KNOWN, add_headers, guard
from d3async.web.render import CHILDREN, SITE, Site, page
from d3async.web.run import CLOSING
from d3async.web.session import OneTimeToken, open_session, opening_file
from d3async.web.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from d3async.web.session import Session

HOST = "127.0.0.1"
UPLOAD_LIMIT = 200 << 20
_IDLE = 12 * 3600.0
_LOOK_EVERY = 60.0
_TYPES = {".css": "text/css", ".js": "text/javascript"}


class LastUse:
    """When the page was used last, on *clock*, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at = clock()

    def note(self) -> None:
        """It is used now."""
        self._at = self._clock()

    def idle(self, longest: float = _IDLE) -> bool:
        """Whether it was not used for *longest* seconds."""
        return self._clock() - self._at > longest


def make_app(
    state: Path,
    session: Session,
    token: OneTimeToken,
    port: Callable[[], int],
    *,
    folders: tuple[Path, ...] = (),
    upload_limit: int = UPLOAD_LIMIT,
    who: str = "",
    used: LastUse | None = None,
) -> web.Application:
    """The application, its uploads below *state*. *port* gives the port it is reached at."""

    @web.middleware
    async def note_use(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if used is not None:
            used.note()
        return await handler(request)

    async def enter(request: web.Request) -> web.Response:
        if not token.use(request.match_info["token"]):
            return web.Response(status=403, text=f"{NOT_KNOWN}\n")
        answer = page(request, "enter")  # no redirect: a strict cookie may be left out in a chain begun elsewhere
        answer.set_cookie(COOKIE, session.secret, path=session.path, httponly=True, samesite="Strict")
        return answer

    app = web.Application(middlewares=[guard(session, port), note_use])
    app[SITE] = Site(session, Uploads(state / "files"), folders, upload_limit, who)
    app[CHILDREN], app[CLOSING] = Children(), asyncio.Event()
    app.on_response_prepare.append(add_headers)
    app.on_shutdown.append(_end_streams)
    app.add_routes(
        [
            web.get(f"{session.path}{ENTRY}/{{token}}", enter),
            web.get(f"{session.path}static/{{name}}", _static),
            *(route for part in (start, columns, check, plan, run, results) for route in part.routes(session.path)),
        ]
    )
    return app


async def _end_streams(app: web.Application) -> None:
    app[CLOSING].set()


_STATIC = Path(__file__).with_name("static")


async def _static(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    if name not in {path.name for path in _STATIC.iterdir()}:
        raise web.HTTPNotFound
    path = _STATIC / name
    return web.Response(text=path.read_text("utf-8"), content_type=_TYPES[path.suffix])


async def serve(
    port: int,
    folders: tuple[Path, ...],
    state: Path,
    opened: Callable[[str, Path], None],
    *,
    who: str,
    new_session: bool = False,
    until: asyncio.Event | None = None,
) -> None:
    """Serve until *until* is set or the page was not used for twelve hours.

    *port* 0 is any free one. *opened* is given the address with its token, and a file that leads there; *who* uses
    the page. Raises `SettingsError` where the port is taken.
    """
    session, token, used, at = open_session(state, new=new_session), OneTimeToken(), LastUse(), [port]
    app = make_app(state, session, token, lambda: at[0], folders=folders, who=who, used=used)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, port)
        try:
            await site.start()
        except OSError as error:
            raise SettingsError(f"--port {port} cannot be used: {error.strerror}", code="option") from error
        at[0] = runner.addresses[0][1]
        address = f"http://{HOST}:{at[0]}{session.path}{ENTRY}/{token.text}"
        opened(address, opening_file(state, address))
        stop = until or asyncio.Event()
        while not (stop.is_set() or used.idle()):
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _LOOK_EVERY)
    finally:
        await runner.cleanup()
