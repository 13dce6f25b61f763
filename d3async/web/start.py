"""The first page: a file is brought, earlier files and run folders are listed, and where rows would go."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import BodyPartReader, web

from d3async.errors import D3Error
from d3async.operations.server_settings import Servers
from d3async.operations.status import folder_status, run_folders
from d3async.web.render import SITE, moved, page, problem, upload_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from d3async.web.uploads import Upload, Uploads

_CHUNK = 1 << 16
_PASTED = "pasted.csv"


@dataclass(frozen=True, slots=True)
class Destination:
    """Where rows go with one profile, or with none: *name*; *problem* says what is missing."""

    name: str
    base_url: str = ""
    site: str = ""
    username: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Earlier:
    """A run folder, or an upload, that was here before."""

    title: str
    address: str
    place: str
    state: str
    outcomes: Mapping[str, int]
    removable: str = ""


def destination(profile: str) -> Destination:
    """Where rows go with *profile*; "" is the one in use without a choice."""
    try:
        settings = Servers({"profile": profile or None, "config": None}).own()
    except D3Error as error:
        return Destination(profile, problem=error.message)
    return Destination(profile, settings.base_url, settings.site, settings.username)


def _profiles() -> tuple[str, ...]:
    try:
        return Servers({"profile": None, "config": None}).profile_names()
    except D3Error:
        return ()


def state_of(folder: Path, *, now: float) -> tuple[str, Mapping[str, int]]:
    """A word for a run folder, and its rows by outcome."""
    if not folder.is_dir():
        return "not sent yet", {}
    try:
        at = folder_status(folder, now=now)
    except D3Error as error:
        return error.message, {}
    state = (
        "running"
        if at.running
        else f"{left:,} left to send"
        if (left := at.summary["outcomes"]["unsent"])
        else "finished"
    )
    return state, {name: count for name, count in at.summary["outcomes"].items() if count}


def _earlier(uploads: Uploads, folders: tuple[Path, ...], *, now: float) -> list[Earlier]:
    uploads.remove_old(now=now)
    found = [_of_upload(upload, now=now) for upload in uploads.all()]
    for number, folder in enumerate(run_folders(folders)):
        state, outcomes = state_of(folder, now=now)
        found.append(Earlier(folder.name, f"folder/{number}/results", str(folder), state, outcomes))
    return found


def _of_upload(upload: Upload, *, now: float) -> Earlier:
    state, outcomes = state_of(upload.run_folder, now=now)
    step = "run" if outcomes else "columns"
    return Earlier(upload.name, f"file/{upload.id}/{step}", str(upload.folder), state, outcomes, upload.id)


async def start(request: web.Request) -> web.Response:
    """The first page."""
    site = request.app[SITE]
    earlier = await asyncio.to_thread(_earlier, site.uploads, site.folders, now=time.time())
    places = await asyncio.to_thread(lambda: [destination(name) for name in ("", *_profiles())])
    return page(request, "start", step="File", earlier=earlier, places=places, limit_mb=site.upload_limit >> 20)


async def bring(request: web.Request) -> web.Response:
    """Take the file, or the pasted table, of the form on the first page."""
    site, profile = request.app[SITE], ""
    async for part in _parts(request):
        if part.name == "profile":
            profile = await _text(part)
        elif part.name == "file" and part.filename:
            return await _keep(request, part, part.filename, profile)
        elif part.name == "table" and (pasted := (await _text(part, site.upload_limit)).strip()):
            upload = site.uploads.new(_PASTED, profile, now=time.time())
            upload.file.write_text(pasted + "\n", "utf-8")
            site.uploads.save(upload)
            return moved(request, "file", upload.id, "columns")
    return problem(request, "No file was given", "Choose a file, or paste a table, and send the form again.")


async def _parts(request: web.Request) -> AsyncIterator[BodyPartReader]:
    reader = await request.multipart()
    while (part := await reader.next()) is not None:
        if isinstance(part, BodyPartReader):
            yield part


async def _text(part: BodyPartReader, most: int = 1000) -> str:
    return b"".join([chunk async for chunk in _chunks(part, most)]).decode("utf-8", "replace")


async def _chunks(part: BodyPartReader, most: int) -> AsyncIterator[bytes]:
    size = 0
    while chunk := await part.read_chunk(_CHUNK):
        size += len(chunk)
        if size > most:
            raise web.HTTPRequestEntityTooLarge(most, size)
        yield chunk


async def _keep(request: web.Request, part: BodyPartReader, name: str, profile: str) -> web.Response:
    site = request.app[SITE]
    try:
        upload = site.uploads.new(name, profile, now=time.time())
    except D3Error as error:
        return problem(request, "This is no job file", error.message)
    try:
        with upload.file.open("xb") as file:
            async for chunk in _chunks(part, site.upload_limit):
                file.write(chunk)
        site.uploads.save(upload)
    except BaseException:
        site.uploads.remove(upload)
        raise
    return moved(request, "file", upload.id, "columns")


async def remove(request: web.Request) -> web.Response:
    """Remove an upload, once its user has agreed; not while it is sent."""
    upload = upload_of(request)
    state, outcomes = await asyncio.to_thread(state_of, upload.run_folder, now=time.time())
    if request.method == "GET":
        return page(request, "remove", upload=upload, state=state, outcomes=outcomes)
    if state == "running":
        return problem(request, "This file is being sent", "Stop the run first.", 409)
    request.app[SITE].uploads.remove(upload)
    return moved(request)


async def help_page(request: web.Request) -> web.Response:
    """What the page does, its keys, and what leaves this machine."""
    return page(request, "help")


def routes(base: str) -> list[web.RouteDef]:
    """The addresses of this module."""
    return [
        web.get(base, start),
        web.post(f"{base}bring", bring),
        web.get(f"{base}help", help_page),
        web.get(f"{base}file/{{id}}/remove", remove),
        web.post(f"{base}file/{{id}}/remove", remove),
    ]
