"""The check: every problem at its cell, found once and kept beside the file, looked at fifty rows at a time."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aiohttp import web

from d3async.errors import D3Error
from d3async.files.atomic_write import atomic_write
from d3async.files.results_writer import InputRows
from d3async.files.source import Format
from d3async.operations.check import CheckOptions, check
from d3async.operations.job_file import invalid_rows
from d3async.web.render import SITE, Quiet, file_answer, moved, page, upload_of
from d3async.web.uploads import with_choices

if TYPE_CHECKING:
    from collections.abc import Mapping

    from d3async.operations.check import CheckReport
    from d3async.web.uploads import Upload

PAGE = 50
_SENDING = frozenset({"skip_invalid", "limit", "allow_similar"})
"""Choices that change nothing of what is found."""
_ROWS, _FOUND, _ERRORS = "invalid.jsonl", "check.json", "errors.csv"


def _check(upload: Upload) -> dict[str, Any]:
    """Check the file of *upload* and keep what was found beside it; what was found before counts for its choices."""
    kept = upload.folder / _FOUND
    reading = {name: value for name, value in upload.choices.items() if name not in _SENDING}
    choices = json.loads(json.dumps(reading))
    try:
        found: dict[str, Any] = json.loads(kept.read_text("utf-8"))
        if found["choices"] == choices:
            return found
    except (OSError, ValueError, KeyError):
        pass  # not checked yet, or killed meanwhile
    observer = Quiet()
    options = CheckOptions(settings=upload.settings, lists_all=True, rows_to=upload.folder / _ROWS)
    try:
        with check(upload.file, upload.job_file, options, observer) as report:
            found = {**_facts(report), "choices": choices}
            report.review.keep(upload.folder)
    except D3Error as error:
        return {"error": error.message, "messages": observer.messages}
    with atomic_write(kept) as file:
        file.write(json.dumps(found).encode())
    return found


def _facts(report: CheckReport) -> dict[str, Any]:
    review, examined = report.review, report.examined
    return {
        "rows": review.rows,
        "invalid": review.invalid,
        "commands": review.commands,
        "lines": list(report.lines),
        "warnings": [group.told() for group in review.warnings],
        "causes": [
            {**group.public(), "told": group.told(), "key": f"{group.column} {group.code}"} for group in review.problems
        ],
        "similar": report.similar.count,
        "identical": report.identical,
        "format": examined.format.to_json() if examined else None,
        "header": list(examined.table.header) if examined else [],
    }


def _cells(found: Mapping[str, Any], rows: list[Any]) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    """The header, and each of *rows* as its cells with the problems of each."""
    inputs = InputRows(Format.from_json(found["format"]), found["header"])
    if inputs.is_json:
        inputs = inputs.with_keys(row.raw for row in rows)
    return inputs.header, [_row(row, inputs) for row in rows]


def _row(row: Any, inputs: InputRows) -> dict[str, Any]:
    cells = [
        (cell, [asdict(p) for p in row.problems if p.column.casefold() == name.casefold()])
        for name, cell in zip(inputs.header, inputs.cells(row.raw), strict=True)
    ]
    placed = {name.casefold() for name in inputs.header}
    other = [asdict(p) for p in row.problems if p.column.casefold() not in placed]
    return {"line": row.line, "cells": cells, "other": other}


async def show(request: web.Request) -> web.Response:
    """What cannot be sent, and why; one cause, or rows that have a text in them, where the address says so."""
    upload = upload_of(request)
    found = await asyncio.to_thread(_check, upload)
    if "error" in found:
        text = "\n".join([*found["messages"], found["error"]])
        return page(request, "unreadable", step="Check", upload=upload, text=text)
    cause, search = request.query.get("cause", ""), request.query.get("search", "").strip()
    at = max(1, int(request.query.get("page", "1")) if request.query.get("page", "1").isdecimal() else 1)
    rows, count = await asyncio.to_thread(
        invalid_rows, upload.folder / _ROWS, code=cause, search=search, skip=(at - 1) * PAGE, most=PAGE
    )
    header, shown = _cells(found, rows) if rows else ((), [])
    return page(
        request, "check", step="Check", upload=upload, found=found, header=header, rows=shown, count=count, at=at,
        pages=max(1, -(-count // PAGE)), cause=cause, search=search,
    )  # fmt: skip


async def decide(request: web.Request) -> web.Response:
    """On to the plan, with the good rows only where some are invalid, or with identical rows where they are meant."""
    upload, form = upload_of(request), await request.post()
    chosen = {name: bool(form.get(name)) for name in ("skip_invalid", "allow_duplicates")}
    request.app[SITE].uploads.save(with_choices(upload, **chosen))
    return moved(request, "file", upload.id, "plan")


async def errors(request: web.Request) -> web.StreamResponse:
    """errors.csv."""
    upload = upload_of(request)
    return file_answer(upload.folder / _ERRORS, f"{upload.name}.errors.csv")


def routes(base: str) -> list[web.RouteDef]:
    """The addresses of this module."""
    return [
        web.get(f"{base}file/{{id}}/check", show),
        web.post(f"{base}file/{{id}}/check", decide),
        web.get(f"{base}file/{{id}}/errors.csv", errors),
    ]
