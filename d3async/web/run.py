"""The run: started as it was confirmed, its numbers as they change, stop."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

from aiohttp import web

from d3async.errors import D3Error
from d3async.files.number_format import duration
from d3async.operations.status import folder_status, read_progress, run_folders
from d3async.web.child import log_of, profile_arguments, run_arguments
from d3async.web.plan import TYPED_ABOVE, plan_of, why_not
from d3async.web.render import CHILDREN, moved, page, problem, upload_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from d3async.operations.status import FolderStatus
    from d3async.web.child import Children
    from d3async.web.uploads import Upload

_EVERY = 0.5


async def start(request: web.Request) -> web.Response:
    """Start the run that the plan page showed, and no other."""
    upload, form, children = upload_of(request), await request.post(), request.app[CHILDREN]
    if children.running(upload):
        return moved(request, "file", upload.id, "run")
    digest, typed = str(form.get("digest", "")), str(form.get("typed", ""))
    if wrong := why_not(upload.plan, digest, typed):
        plan = await asyncio.to_thread(plan_of, upload)
        return page(
            request, "plan", 409, step="Plan", upload=upload, plan=plan, typed_above=TYPED_ABOVE, typed=typed,
            wrong=wrong,
        )  # fmt: skip
    children.start(upload, run_arguments(upload, digest))
    return moved(request, "file", upload.id, "run")


def run_state(upload: Upload, children: Children) -> dict[str, Any]:
    """How the run of *upload* is: `running`, its numbers, and what is left."""
    started = children.running(upload)
    status: FolderStatus | None = None
    if run_folders((upload.run_folder,)):
        try:
            status = folder_status(upload.run_folder, now=time.time())
        except D3Error:
            status = None  # it is being made
    running = started or bool(status and status.running)
    progress = read_progress(upload.run_folder) if running else None
    return {**numbers(status, progress, running=running), "status": status}


def numbers(status: FolderStatus | None, progress: Mapping[str, Any] | None, *, running: bool) -> dict[str, Any]:
    """What the page shows of a run, as texts by field: from its *progress*, else from its journal."""
    outcomes = dict(progress["outcomes"] if progress else status.summary["outcomes"] if status else {})
    done = progress["done"] if progress else sum(outcomes.values()) - outcomes.get("unsent", 0)
    rows = progress["rows"] if progress else sum(outcomes.values())
    rate, left, why = "", "", ""
    if progress:
        pace = done / progress["elapsed_s"] if progress["elapsed_s"] else 0.0
        ceiling = f" of {progress['ceiling']:g}" if progress["ceiling"] else ""
        rate = f"{pace:.1f} rows a second{ceiling}"
        left = "" if progress["left_s"] is None else f"about {duration(progress['left_s'])} left"
        why = progress["why"]
    counts = ", ".join(f"{count:,} {name}" for name, count in outcomes.items() if count)
    texts = {
        "done": f"{done:,} of {rows:,} rows",
        "counts": counts or "none yet",
        "rate": rate,
        "left": left,
        "why": why,
        "messages": "\n".join(progress["messages"]) if progress else "",
    }
    percent = 100 * done // rows if rows else 0
    summary = f"{texts['done']}: {counts}. {left}".strip()
    return {
        "running": running, "done": done, "rows": rows, "percent": percent, "texts": texts, "summary": summary,
    }  # fmt: skip


async def show(request: web.Request) -> web.Response:
    """The run as it is."""
    upload = upload_of(request)
    state = await asyncio.to_thread(run_state, upload, request.app[CHILDREN])
    return page(
        request, "run", step="Run", upload=upload, state=state, log=log_of(upload), refresh=state["running"],
        left=state["status"].summary["outcomes"]["unsent"] if state["status"] else 0,
    )  # fmt: skip


async def live(request: web.Request) -> web.StreamResponse:
    """The numbers as events, while they change and the run goes on; then the event `end`."""
    upload, children = upload_of(request), request.app[CHILDREN]
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    before = ""
    while not request.app[CLOSING].is_set():
        state = await asyncio.to_thread(run_state, upload, children)
        del state["status"]
        if (text := json.dumps(state)) != before:
            before = text
            await response.write(f"data: {text}\n\n".encode())
        if not state["running"]:
            await response.write(b"event: end\ndata: 1\n\n")
            break
        await asyncio.sleep(_EVERY)
    return response


CLOSING = web.AppKey("closing", asyncio.Event)


async def stop(request: web.Request) -> web.Response:
    """Stop the run: what is in flight is finished; a second time, it is cut off."""
    upload = upload_of(request)
    if not await asyncio.to_thread(request.app[CHILDREN].stop, upload):
        return problem(request, "Nothing was stopped", "The run is over, or another machine runs it.", 409)
    return moved(request, "file", upload.id, "run")


async def look_up(request: web.Request) -> web.Response:
    """Look unknown rows up in D3, as `d3async reconcile` does."""
    upload, children = upload_of(request), request.app[CHILDREN]
    if not children.running(upload):
        children.start(upload, ("reconcile", str(upload.run_folder), *profile_arguments(upload)))
    return moved(request, "file", upload.id, "run")


def routes(base: str) -> list[web.RouteDef]:
    """The addresses of this module."""
    return [
        web.get(f"{base}file/{{id}}/run", show),
        web.post(f"{base}file/{{id}}/run", start),
        web.get(f"{base}file/{{id}}/live", live),
        web.post(f"{base}file/{{id}}/stop", stop),
        web.post(f"{base}file/{{id}}/look-up", look_up),
    ]
