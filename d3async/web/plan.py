"""The plan: how many rows go where, as whom, what was filled in; confirmed by number, and sent only as it was shown."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aiohttp import web

from d3async.errors import D3Error
from d3async.operations.plan_text import plan_lines, send_words
from d3async.operations.run import RunOptions, run
from d3async.operations.server_settings import Servers
from d3async.web.render import SITE, Quiet, moved, page, problem, upload_of
from d3async.web.uploads import with_choices

if TYPE_CHECKING:
    from collections.abc import Mapping

    from d3async.operations.observer import Progress
    from d3async.operations.plan import Plan
    from d3async.web.uploads import Upload

TYPED_ABOVE = 500
"""More rows than this are confirmed by typing their number."""
_REQUESTS = 3


class _PlanObserver(Quiet):
    """`operations.observer.RunObserver` that keeps the plan and the first requests."""

    def __init__(self) -> None:
        super().__init__()
        self.plan: Plan | None = None
        self.requests: list[str] = []

    def planned(self, plan: Plan) -> None:
        """See `RunObserver.planned`."""
        self.plan = plan

    def request(self, request: Mapping[str, Any]) -> None:
        """See `RunObserver.request`."""
        self.requests.append(json.dumps(request, ensure_ascii=False, indent=2))

    def progress(self, rows: int) -> Progress:
        """Never asked for: a dry run sends nothing."""
        raise NotImplementedError(rows)


def plan_of(upload: Upload) -> dict[str, Any]:
    """What a run of *upload* would do; `error` says what keeps it from that, `similar` that rows look like others."""
    observer, servers = _PlanObserver(), Servers(upload.settings)
    options = RunOptions(dry_run=True, requests_shown=_REQUESTS, allow_similar=upload.allow_similar)
    error = code = ""
    try:
        run(upload.file, upload.job_file, servers, options, observer)
        for server in observer.plan.servers if observer.plan else ():
            servers.of(server.profile, server.commands)
    except D3Error as found:
        error, code = found.message, found.code
    if observer.plan is None:
        return {"error": "\n".join([*observer.messages, error]).strip(), "digest": "", "rows": 0}
    return {
        "error": error,
        "similar": code == "similar",
        "digest": observer.plan.digest,
        "rows": observer.plan.rows,
        "lines": plan_lines(observer.plan),
        "details": observer.details,
        "button": send_words(observer.plan),
        "requests": observer.requests,
        "servers": [
            {"url": at.settings.base_url, "site": at.settings.site, "user": at.settings.username, "rows": at.rows}
            for at in observer.plan.servers
        ],
    }


async def show(request: web.Request) -> web.Response:
    """The plan as it is now; what it says is kept, and nothing else can be confirmed."""
    upload = upload_of(request)
    plan = await asyncio.to_thread(plan_of, upload)
    shown = {name: plan.get(name) for name in ("digest", "rows", "button")} if not plan["error"] else {}
    request.app[SITE].uploads.save(replace(upload, plan=shown))
    return page(request, "plan", step="Plan", upload=upload, plan=plan, typed_above=TYPED_ABOVE, typed="", wrong="")


async def change(request: web.Request) -> web.Response:
    """Another plan: the first rows only, all rows, or rows that look like others too."""
    upload, form = upload_of(request), await request.post()
    limit = str(form.get("limit", "")).strip()
    if limit and not (limit.isdecimal() and int(limit)):
        return problem(request, "This is no number of rows", f'"{limit}": give a number like 5, or nothing.')
    similar = bool(form.get("allow_similar"))
    request.app[SITE].uploads.save(with_choices(upload, limit=int(limit) if limit else None, allow_similar=similar))
    return moved(request, "file", upload.id, "plan")


def why_not(plan: Mapping[str, Any], digest: str, typed: str) -> str:
    """Why *plan* is not confirmed by a form with its *digest* and the number that was *typed*; "" where it is."""
    if not plan or plan["digest"] != digest:
        return "This plan is not the newest one: another tab or a change made a new one. Look at the plan again."
    number = "".join(letter for letter in typed if letter not in " ,.'\u00a0\u202f")
    if plan["rows"] > TYPED_ABOVE and number != str(plan["rows"]):
        return f"Type {plan['rows']:,} to confirm that so many rows are sent."
    return ""


def routes(base: str) -> list[web.RouteDef]:
    """The addresses of this module."""
    return [web.get(f"{base}file/{{id}}/plan", show), web.post(f"{base}file/{{id}}/plan", change)]
