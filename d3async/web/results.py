"""What became of each row: by outcome, by text, one row with D3's answer; unknown rows are settled here."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from d3async.errors import D3Error
from d3async.files.number_format import instant
from d3async.files.run_files import inputs_of
from d3async.journal.sqlite.reader import FILE, FolderReader
from d3async.operations.settle import settle
from d3async.operations.status import folder_status, run_folders
from d3async.policy.hand_settlement import Hand, RowChoice
from d3async.policy.outcome import OUTCOMES
from d3async.web.render import SITE, file_answer, page, problem, upload_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from d3async.journal.model import RowRecord

PAGE = 50
_VERDICTS = {"ok": "is there", "failed": "is not there", "undo": "as it was before"}
_FILES = (
    "results.csv", "results.jsonl", "results.xlsx", "items.csv", "failed.csv", "failed.jsonl", "failed.xlsx",
    "unknown.csv", "unknown.jsonl", "unknown.xlsx", "errors.csv", "summary.json", "report.html",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """A run folder, how it is called, and whether it is an upload's, which can be gone on with here."""

    folder: Path
    title: str
    ours: bool


def _place(request: web.Request) -> Place:
    """The run folder that the address names. Raises `HTTPNotFound`."""
    if "id" in request.match_info:
        upload = upload_of(request)
        return Place(upload.run_folder, upload.name, ours=True)
    folders, number = run_folders(request.app[SITE].folders), request.match_info["number"]
    if not number.isdecimal() or int(number) >= len(folders):
        raise web.HTTPNotFound(text="There is no such run folder here any more.\n")
    folder = folders[int(number)]
    return Place(folder, folder.name, ours=False)


def _rows(folder: Path, outcome: str, search: str, at: int) -> dict[str, Any]:
    with FolderReader(folder / FILE) as reader:
        rows, count = reader.some_rows((outcome,) if outcome else (), search, skip=(at - 1) * PAGE, most=PAGE)
        inputs = inputs_of(reader)[1]
        inputs = inputs.with_keys(row.raw for row in rows) if inputs.is_json else inputs
        return {
            "counts": reader.counts(), "rows": [(row, inputs.cells(row.raw)) for row in rows], "count": count,
            "header": inputs.header, "by_hand": sum(reader.settled_by_hand().values()),
        }  # fmt: skip


async def show(request: web.Request) -> web.Response:
    """Fifty rows, of one outcome or with a text in them where the address says so."""
    place, query = _place(request), request.query
    outcome, search, at = query.get("outcome", ""), query.get("search", "").strip(), query.get("page", "1")
    outcome = outcome if outcome in OUTCOMES else ""
    number = max(1, int(at)) if at.isdecimal() else 1
    try:
        found = await asyncio.to_thread(_rows, place.folder, outcome, search, number)
    except D3Error as error:
        return problem(request, "There are no results", error.message, 404)
    files = [name for name in _FILES if (place.folder / name).is_file()]
    return page(
        request, "results", step="Results", place=place, outcome=outcome, search=search, at=number,
        pages=max(1, -(-found["count"] // PAGE)), files=files, verdicts=_VERDICTS, **found,
    )  # fmt: skip


def _row(folder: Path, number: int) -> dict[str, Any] | None:
    with FolderReader(folder / FILE) as reader:
        found = reader.one_row(number)
        if found is None:
            return None
        row, items = found
        answer = None if row.answer is None else reader.answer(row.answer)
        return {"row": row, "items": items, "answer": answer, "cells": _named(reader, row)}


def _named(reader: FolderReader, row: RowRecord) -> list[tuple[str, str]]:
    inputs = inputs_of(reader)[1]
    inputs = inputs.with_keys([row.raw]) if inputs.is_json else inputs
    return list(zip(inputs.header, inputs.cells(row.raw), strict=True))


async def one(request: web.Request) -> web.Response:
    """One row: its cells, its links, attempts, times, and D3's answer."""
    place, number = _place(request), request.match_info["row"]
    try:
        found = await asyncio.to_thread(_row, place.folder, int(number)) if number.isdecimal() else None
    except D3Error as error:
        return problem(request, "There are no results", error.message, 404)
    if found is None:
        raise web.HTTPNotFound(text="There is no such row.\n")
    times = {name: instant(getattr(found["row"], name)) for name in ("sent_at", "done_at")}
    return page(request, "row", step="Results", place=place, times=times, verdicts=_VERDICTS, **found)


async def settle_rows(request: web.Request) -> web.Response:
    """Settle the rows that were ticked, or every unknown one; or take that back. Asks once where it is every row."""
    place, form = _place(request), await request.post()
    verdict, every = str(form.get("verdict", "")), bool(form.get("every"))
    numbers = [int(text) for text in map(str, form.getall("row", [])) if text.isdecimal()]
    if verdict not in _VERDICTS or not (numbers or every):
        return problem(request, "No row was chosen", "Tick rows, and choose what became of them.")
    if every and not form.get("sure"):
        at = await asyncio.to_thread(folder_status, place.folder, now=time.time())
        count = at.summary["outcomes"]["unknown"] if verdict != "undo" else None
        return page(request, "settle", step="Results", place=place, verdict=verdict, verdicts=_VERDICTS, count=count)
    choice = RowChoice(() if every else tuple((number, number) for number in numbers), every=every)
    return await _settled(request, place, verdict, choice)


async def _settled(request: web.Request, place: Place, verdict: Any, choice: RowChoice) -> web.Response:
    by = Hand(request.app[SITE].who, socket.gethostname(), time.time())
    try:
        result = await asyncio.to_thread(settle, place.folder, verdict, choice, by=by)
    except D3Error as error:
        return problem(request, "Nothing was settled", error.message, 409)
    if result.refused:
        text = "\n".join(f"{one.what} {one.why}" for one in result.refused[:20])
        return problem(request, "Nothing was settled", text, 409)
    back = request.path.rpartition("/")[0]
    return web.Response(status=303, headers={"Location": f"{back}/results"})


async def download(request: web.Request) -> web.StreamResponse:
    """A file of the run folder, of a fixed list of names."""
    name = request.match_info["name"]
    if name not in _FILES:
        raise web.HTTPNotFound(text="There is no such file.\n")
    return file_answer(_place(request).folder / name, name)


_PAGES: tuple[tuple[str, str, Callable[[web.Request], Awaitable[web.StreamResponse]]], ...] = (
    ("GET", "results", show),
    ("GET", "row/{row}", one),
    ("POST", "settle", settle_rows),
    ("GET", "download/{name}", download),
)


def routes(base: str) -> list[web.RouteDef]:
    """The addresses of this module: of an upload, and of a run folder in a folder that the server was given."""
    places = (f"{base}file/{{id}}/", f"{base}folder/{{number}}/")
    return [web.route(method, place + path, handler) for place in places for method, path, handler in _PAGES]
