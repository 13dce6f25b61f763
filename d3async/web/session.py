"""Who may use the page: a cookie's secret that outlives the server, and a token that is used once to get it."""

from __future__ import annotations

import hmac
import html
import json
import secrets
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import platformdirs

from d3async.files.atomic_write import atomic_write

if TYPE_CHECKING:
    from pathlib import Path

_FILE = "session.json"
_OPENER = "open.html"


@dataclass(frozen=True, slots=True)
class Session:
    """The *secret* of the cookie, and the *path* of every page, which begins and ends with `/`.

    Cookies do not know ports: without a path that others cannot guess, the cookie would be sent to another server on
    127.0.0.1, which may be another user's.
    """

    secret: str
    path: str


def state_folder() -> Path:
    """Where uploads and the session are kept."""
    return platformdirs.user_state_path("d3async", appauthor=False) / "web"


def open_session(folder: Path, *, new: bool = False) -> Session:
    """The session kept in *folder*, which is made; a *new* one ends the sessions of every browser."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / _FILE
    if path.exists() and not new:
        try:
            return Session(**json.loads(path.read_text("utf-8")))
        except (ValueError, TypeError):
            pass  # torn: a new one
    session = Session(secrets.token_urlsafe(32), f"/{secrets.token_hex(8)}/")
    with atomic_write(path) as file:
        file.write(json.dumps(asdict(session)).encode())
    return session


class OneTimeToken:
    """256 random bits that open the page once."""

    def __init__(self) -> None:
        self.text = secrets.token_urlsafe(32)
        self._used = False

    def use(self, given: str) -> bool:
        """Whether *given* is the token and was not used before; it is used then."""
        right = hmac.compare_digest(given.encode("utf-8", "replace"), self.text.encode()) and not self._used
        self._used = self._used or right
        return right


def opening_file(folder: Path, address: str) -> Path:
    """A file that only this user can read and that leads to *address*: a process list then shows no token."""
    path = folder / _OPENER
    to = html.escape(address)
    text = (
        f'<!DOCTYPE html><meta charset="utf-8"><title>d3async</title><meta http-equiv="refresh" content="0;url={to}">'
    )
    with atomic_write(path) as file:
        file.write(f'{text}<a href="{to}">d3async</a>\n'.encode())
    return path
