"""Pages from templates: every text is escaped, numbers are written as people read them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from d3async.web.child import Children

if TYPE_CHECKING:
    from pathlib import Path

    from d3async.operations.observer import Question
    from d3async.web.session import Session
    from d3async.web.uploads import Upload, Uploads

STEPS = ("File", "Columns", "Check", "Plan", "Run", "Results")


@dataclass(frozen=True, slots=True)
class Site:
    """What every page needs. *folders* are the places whose run folders are listed beside the uploads.

    *who* is the name that settlements are kept under.
    """

    session: Session
    uploads: Uploads
    folders: tuple[Path, ...]
    upload_limit: int
    who: str


SITE = web.AppKey("site", Site)
CHILDREN = web.AppKey("children", Children)


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("d3async.web"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = "{:,}".format
    return environment


def page(request: web.Request, template: str, status: int = 200, **values: Any) -> web.Response:
    """The page of *template*, with `base` (the address of the first page) and `steps` beside *values*."""
    values = {"step": "", "base": request.app[SITE].session.path, "steps": STEPS, "refresh": False, **values}
    text = _templates().get_template(f"{template}.html.j2").render(values)
    return web.Response(text=text, status=status, content_type="text/html")


def moved(request: web.Request, *parts: str) -> web.Response:
    """After a form: on to the page at *parts* below the first page."""
    return web.Response(status=303, headers={"Location": request.app[SITE].session.path + "/".join(parts)})


def problem(request: web.Request, title: str, text: str, status: int = 400) -> web.Response:
    """A page that says what cannot be done, and why."""
    return page(request, "problem", status, title=title, text=text)


def upload_of(request: web.Request) -> Upload:
    """The upload that the address names. Raises `HTTPNotFound`."""
    found = request.app[SITE].uploads.get(request.match_info["id"])
    if found is None:
        raise web.HTTPNotFound(text="There is no such file here any more.\n")
    return found


def file_answer(path: Path, name: str) -> web.FileResponse:
    """*path* to be saved as *name*. Raises `HTTPNotFound` where it is not there."""
    if not path.is_file():
        raise web.HTTPNotFound(text="There is no such file.\n")
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
    return web.FileResponse(path, headers=headers)


class Quiet:
    """`operations.observer.AskingObserver` that keeps what it is given, and agrees to nothing."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.details: list[str] = []

    def message(self, text: str) -> None:
        """See `OperationObserver.message`."""
        self.messages.append(text)

    def detail(self, text: str) -> None:
        """See `OperationObserver.detail`."""
        self.details.append(text)

    def confirm(self, question: Question) -> bool | None:  # noqa: ARG002 - a page asks before it calls
        """See `AskingObserver.confirm`."""
        return None
