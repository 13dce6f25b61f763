"""Prove a key with a call that changes nothing in D3."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import anyio

from d3async.cli.findings import Finding
from d3async.network import Network
from d3async.sansio.protocol import (
    ApiResponse,
    Broken,
    Doubtful,
    Refused,
    Throttled,
    Unauthorized,
    envelope,
    read,
    returned,
)
from d3async.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from d3async.auth import Auth
    from d3async.settings import Settings

_OK = 200
_NOT_FOUND = 404


def of_key(settings: Settings, auth: Auth) -> Finding:
    """Ask D3 something harmless, if there is a key for that."""
    question = next(((name, params) for name, params in _questions() if auth.can(name)), None)
    if question is None:
        text = "cannot be proven without changing D3: there is no key for GetIncidents"
        return Finding("proof", "note", text, "d3async run FILE --limit 1 is the smallest proof")
    name, params = question
    request = envelope(name, params, username=settings.username, site=settings.site)
    headers = auth.headers(name, username=settings.username, site=settings.site)
    general = (credential := settings.credentials.best(name)) is not None and not credential.command
    return judge(name, anyio.run(_ask, settings, request, headers), general=general)


def _questions() -> list[tuple[str, dict[str, Any]]]:
    """https://docs.d3security.com/api-docs/Working-version/get-incidents and …/get-linked-incidents-of-an-incident."""
    now = datetime.now(UTC)
    span = {"Start Time": f"{now - timedelta(minutes=1):%Y-%m-%d %H:%M:%S}", "End Time": f"{now:%Y-%m-%d %H:%M:%S}"}
    look = {"Filter": [], "Static Fields": ["IR Number"], "Page Index": 0, "Page Size": 1, "Output Format": 2}
    return [
        ("GetIncidents", {**look, **span}),
        ("GetLinkedIncidentsOfAnIncident", {"Incident Number": "00000000-0"}),
    ]


async def _ask(settings: Settings, request: Any, headers: Mapping[str, str]) -> ApiResponse | Broken:
    network = Network(
        settings.base_url,
        timeout=settings.timeout,
        ca_bundle=settings.ca_bundle,
        client_cert=settings.client_cert,
        client_key=settings.client_key,
    )
    async with Transport(network) as transport:
        return await transport.send(request, headers)


def judge(name: str, answer: ApiResponse | Broken, *, general: bool) -> Finding:
    """What *answer* says about the key. With a *general* key a 401 proves nothing about other commands."""
    state: Literal["ok", "bad", "note"] = "bad"
    match answer if isinstance(answer, Broken) else read(answer):
        case Unauthorized() if general:
            state, text = "note", f"D3 refuses the general key for {name}; it makes keys per command: no proof"
            cure = "d3async run FILE --limit 1 is the smallest proof"
        case Unauthorized(message=message):
            text = f"{name}: D3 refuses the key: {message}"
            cure = "make the key anew in D3 (Configuration, Utility Commands), and see who may use it"
        case Throttled():
            state, text, cure = "note", f"{name}: D3 is asked too much at the moment (429)", "try again later"
        case Refused(message=message, status=200):
            state, text, cure = "ok", f"D3 takes the key for {name} (and answers: {message})", ""
        case Refused(message=message, status=status):
            text = f"{name}: HTTP {status}: {message}"
            cure = "is the site path in D3_BASE_URL right?" if status == _NOT_FOUND else ""
        case Broken(message=message):
            text, cure = f"{name}: {message}", "see what the lines above say, then try again"
        case Doubtful(message=message) if not _from_d3(answer):
            text, cure = f"{name}: {message}", "something else than D3 answers: is D3_BASE_URL right?"
        case _:
            state, text, cure = "ok", f"D3 takes the key for {name}", ""
    return Finding("proof", state, text, cure)


def _from_d3(answer: ApiResponse | Broken) -> bool:
    """Whether it is a JSON object under 200, as D3 sends: no redirect, no error page, no 5xx."""
    return isinstance(answer, ApiResponse) and answer.status == _OK and isinstance(returned(answer), dict)
