"""The columns of a file: what each is, guesses marked as such until their user has agreed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp import web

from d3async.d3.commands import all_commands
from d3async.errors import D3Error
from d3async.operations.check import CheckOptions, check
from d3async.operations.mapping import chosen_names, view_columns
from d3async.web.render import SITE, Quiet, moved, page, problem, upload_of
from d3async.web.start import destination
from d3async.web.uploads import with_choices

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multidict import MultiDictProxy

    from d3async.web.uploads import Upload

_TEXTS = ("command", "date_format", "time_zone", "server_time_zone", "encoding", "delimiter", "sheet", "id_column")


async def columns(request: web.Request) -> web.Response:
    """Each column with its first cells and what it is read as."""
    upload = upload_of(request)
    try:
        found = await asyncio.to_thread(view_columns, upload.file, upload.job_file)
    except D3Error as error:
        return page(request, "columns", step="Columns", upload=upload, found=None, text=error.message, **_known(upload))
    return page(request, "columns", step="Columns", upload=upload, found=found, text="", **_known(upload))


def _known(upload: Upload) -> dict[str, Any]:
    values = dict(text.partition("=")[::2] for text in upload.choices.get("values", ()))
    return {
        "chosen": upload.choices, "values": values, "commands": list(all_commands()),
        "place": destination(upload.profile),
    }  # fmt: skip


async def choose(request: web.Request) -> web.Response:
    """Keep what was chosen; on to the check, or back here where the file is to be read in another way."""
    upload = upload_of(request)
    form = await request.post()
    texts = {name: str(form.get(name, "")).strip() for name in _TEXTS}
    other_form = any(texts[name] != upload.choices.get(name, "") for name in ("encoding", "delimiter", "sheet"))
    upload = with_choices(upload, **texts)
    if form.get("command_before") == texts["command"] and not other_form:
        upload = with_choices(upload, names=_names(form, texts["command"]), values=_values(form))
        if form.get("save") and (text := await asyncio.to_thread(_save_mapping, upload)):
            return problem(request, "The mapping was not saved", text)
    else:
        upload = with_choices(upload, names=[], values=[])
    request.app[SITE].uploads.save(upload)
    return moved(request, "file", upload.id, "columns" if form.get("again") or other_form else "check")


def _names(form: MultiDictProxy[Any], command: str) -> list[str]:
    names, fields = form.getall("name", []), form.getall("field", [])
    return list(chosen_names(list(zip(map(str, names), map(str, fields), strict=True)), command))


def _values(form: Mapping[str, Any]) -> list[str]:
    set_to = {name.removeprefix("set-"): str(value).strip() for name, value in form.items() if name.startswith("set-")}
    return [f"{name}={value}" for name, value in set_to.items() if value]


def _save_mapping(upload: Upload) -> str:
    """Keep the choices in the profile; why not, in words, or ""."""
    options = CheckOptions(settings=upload.settings, save_mapping=True, lists_all=True)
    try:
        with check(upload.file, upload.job_file, options, Quiet()):
            return ""
    except D3Error as error:
        return error.message


def routes(base: str) -> list[web.RouteDef]:
    """The addresses of this module."""
    return [web.get(f"{base}file/{{id}}/columns", columns), web.post(f"{base}file/{{id}}/columns", choose)]
