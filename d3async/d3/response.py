"""D3's envelope and answers: a command becomes an `ApiRequest`, an `ApiResponse` becomes what it proves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from d3async.sansio.answer_json import (
    NOTHING,
    field,
    loads,
    same_key,
    shown,
    storable,
    unwrapped,
    unwrapped_list,
)
from d3async.sansio.call import JsonObject

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

API_PATH = "/api/Command/"
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class ApiRequest(NamedTuple):
    """One POST: *command* is D3's name (the last part of the URL), *body* the JSON envelope."""

    command: str
    body: bytes


class ApiResponse(NamedTuple):
    """An answer read to its end. *headers* have lower-case names, *elapsed* is seconds from headers sent to read."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    elapsed: float = 0.0


@dataclass(frozen=True, slots=True)
class Broken:
    """No whole answer. *sent* is False only when the request provably never left us.

    *code* is `dns`, `refused`, `tls`, `proxy`, `bad_url`, `connect_timeout`, `connect_failed`, or, once it was sent,
    `read_timeout`, `connection_lost`, `cut_answer`, `bad_response`, `answer_too_large` or `cancelled`. *status* is the
    one an answer began with.
    """

    sent: bool
    code: str
    message: str
    status: int | None = None


class ItemError(NamedTuple):
    """One entry of `ErrorData`: D3's word about one incident."""

    incident: str
    message: str


class Reply(NamedTuple):
    """D3 answered the command. *status* is its own word; *remaining* the links it lists as left, None when it does not.

    *nameless* is set when an entry of `ErrorData` does not say for which incident it speaks; *anomalies* tells what
    in the answer could not be understood or contradicts itself.
    """

    status: Literal["ok", "partial", "failed"]
    errors: tuple[ItemError, ...] = ()
    remaining: tuple[str, ...] | None = None
    nameless: bool = False
    anomalies: tuple[str, ...] = ()
    data: Any = None


@dataclass(frozen=True, slots=True)
class Refused:
    """D3 said no as a whole: it did not happen."""

    code: str
    message: str
    status: int


@dataclass(frozen=True, slots=True)
class Unauthorized:
    """401."""

    message: str


@dataclass(frozen=True, slots=True)
class Throttled:
    """429: refused before it was looked at (RFC 6585 section 4). *retry_after* in seconds, None when not said."""

    message: str
    retry_after: float | None


@dataclass(frozen=True, slots=True)
class Doubtful:
    """Something answered, and it proves nothing: 3xx, 5xx, HTML, an empty or unreadable body."""

    code: str
    message: str
    status: int


Answer = Reply | Refused | Unauthorized | Throttled | Doubtful | Broken


def envelope(command: str, params: Mapping[str, Any], *, username: str, site: str) -> ApiRequest:
    """The request for *command*: D3's envelope with `Username`, `Site` and `CommandParams`."""
    text = params.text if isinstance(params, JsonObject) else _ENCODER.encode(params)
    return ApiRequest(command, f"{_opening(username, site)}{text}}}".encode())


@lru_cache(maxsize=64)
def _opening(username: str, site: str) -> str:
    return f'{{"Username":{_ENCODER.encode(username)},"Site":{_ENCODER.encode(site)},"CommandParams":'


def read(response: ApiResponse, *, retry_after: float | None = None) -> Answer:
    """What *response* proves. *retry_after* is the wait its headers ask for (`sansio.retry_after`), for a 429."""
    body = loads(response.body)
    said = error_text(body) if isinstance(body, dict) else ""
    status = response.status
    if status == 429:  # noqa: PLR2004 - RFC 6585
        return Throttled(said or "Too many requests.", retry_after)
    if status == 401:  # noqa: PLR2004 - RFC 9110
        return Unauthorized(said or "D3 answered 401 Unauthorized.")
    if 400 <= status < 500 and status != 408:  # noqa: PLR2004 - a gateway's 408 may come after D3 was asked
        return Refused(f"http_{status}", said or f"D3 answered HTTP {status}.", status)
    if status != 200:  # noqa: PLR2004 - D3's pages know no other success
        return Doubtful(f"http_{status}", said or f"HTTP {status} does not say whether it happened.", status)
    if not isinstance(body, dict):
        return Doubtful("bad_response", _unreadable(response, body), status)
    return _read_success(body, said)


def returned(response: ApiResponse) -> Any:
    """The JSON of *response*, or its text when it is not JSON."""
    try:
        return json.loads(response.body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return response.body.decode("utf-8", "replace")


def _unreadable(response: ApiResponse, body: Any) -> str:
    if body is not NOTHING:
        return "The answer is JSON, but not an object: it does not say whether it happened."
    kind = response.headers.get("content-type", "").partition(";")[0] or "no content type"
    what = "empty" if not response.body.strip() else f"not readable JSON ({kind})"
    return f"HTTP 200 with an answer that is {what}: it does not say whether it happened."


def error_text(body: Mapping[str, Any]) -> str:
    """D3's own error text: `error` in a 200, `Error` in a 4xx or 5xx; "" when there is none."""
    for key, value in body.items():
        if value and same_key(key) == "error":
            return storable(value) if isinstance(value, str) else shown(value)
    return ""


_OK = frozenset({"successful", "succeed", "succeeded", "success", "true"})
_FAILED = frozenset({"failed", "failure", "fail", "false", "unsuccessful"})
_PARTIAL = frozenset({"partially successful", "partially succeed", "partial", "partially succeeded"})


def _read_success(body: dict[str, Any], said: str) -> Answer:
    content = unwrapped(field(body, "returndata"))
    status = _status(content)
    if said and status in {"ok", "partial"}:
        return _doubtful(
            "contradiction", f"The answer contradicts itself: returnData says {status}, error says: {said}"
        )
    if status == "ok" and not isinstance(content, dict):
        return Reply("ok", data=body)
    errors, complaints = _item_errors(content)
    if said and not (status and errors):
        return Refused("command_error", said, 200)
    remaining, doubts = _remaining(content)
    if doubt := _proves_nothing(content, status, errors, remaining):
        return doubt
    if status == "failed" and not errors:
        return Refused("command_error", 'D3 answered "Failed" without a reason.', 200)
    anomalies = (*complaints, *doubts, *([said] if said else []))
    return Reply(status or "failed", errors, remaining, bool(complaints), anomalies, body)


def _proves_nothing(
    content: Any, status: str, errors: tuple[ItemError, ...], remaining: tuple[str, ...] | None
) -> Doubtful | None:
    if not status:
        empty = content in ("", None, [], {})
        message = "D3 answered with nothing in it" if empty else f"D3 answered returnData {shown(content)}"
        return _doubtful("empty_answer" if empty else "bad_response", f"{message}: that proves nothing.")
    if status == "partial" and not errors:
        return _doubtful("bad_response", "D3 reports an error without saying for which incident.")
    if status == "failed" and not errors and remaining is not None:
        return _doubtful("contradiction", "Status says Failed, yet no incident has an error and links are listed.")
    return None


def _doubtful(code: str, message: str) -> Doubtful:
    return Doubtful(code, message, 200)


def _status(content: Any) -> Literal["ok", "partial", "failed", ""]:
    word = field(content, "status") if isinstance(content, dict) else content
    if word == "Successful":
        return "ok"
    said = " ".join(str(word).split()).casefold() if isinstance(word, str | bool) else ""
    if said in _OK:
        return "ok"
    if said in _PARTIAL:
        return "partial"
    return "failed" if said in _FAILED else ""


def _item_errors(content: Any) -> tuple[tuple[ItemError, ...], tuple[str, ...]]:
    entries = unwrapped_list(field(content, "errordata"))
    if entries is None:
        return (), (f"ErrorData cannot be read: {shown(field(content, 'errordata'))}",)
    errors = []
    complaints = []
    for entry in entries:
        number = field(entry, "incident number")
        said = field(entry, "error message")
        if isinstance(number, str | int) and str(number).strip():
            message = said if isinstance(said, str) and said else shown(entry)
            errors.append(ItemError(storable(str(number)), storable(message)))
        else:
            complaints.append(f"ErrorData names no incident: {shown(entry)}")
    return tuple(errors), tuple(complaints)


def _remaining(content: Any) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Links D3 lists as left; the key names the source and ends in a blank, so the key is not matched."""
    data = unwrapped(field(content, "data"))
    if data in (None, "", {}, []):
        return None, ()
    lists = [data] if isinstance(data, list) else list(data.values()) if isinstance(data, dict) else [None]
    if len(lists) == 1 and isinstance(lists[0], list) and set(map(type, lists[0])) <= {str, int}:
        return tuple(map(str, lists[0])), ()
    # whatever it names is not called ok
    return tuple(_named(data)) or None, (f"Data cannot be read: {shown(data)}",)


def _named(data: Any) -> Iterator[str]:
    """Every text and number in *data*, however deep."""
    left = [data]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left += value.values()
        elif isinstance(value, list):
            left += value
        elif type(value) in {str, int} and str(value).strip():
            yield str(value)
