"""What an answer of D3 proves, read leniently: its envelope, JSON that may hide in text, keys in any case."""

from __future__ import annotations

import html
import json
import re
from codecs import BOM_UTF8
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


class _Nothing:
    """What an unreadable body holds."""


NOTHING = _Nothing()
_SPELT = {
    "error": "error", "returndata": "returnData", "status": "Status", "errordata": "ErrorData", "data": "Data",
    "incident number": "Incident Number", "error message": "Error message",
}  # fmt: skip
"""The keys that decide, and how D3's pages spell them."""
_BLANKS = " \t\n\r"
_ECHOED = frozenset({"Task Name", "Task Type", "Task Description", "Assignee", "Due Date", "Required"})
_DISTINCT = _ECHOED.union(_SPELT.values(), ("rawData", "outputData", "contextData", "keyFields"))
"""Keys as D3's pages spell them, no two of them alike."""


def loads(body: bytes) -> Any:
    """The JSON in *body*, or `NOTHING`."""
    try:
        return parsed(body.removeprefix(BOM_UTF8).decode())
    except UnicodeDecodeError:
        return NOTHING


def parsed(text: str) -> Any:
    """The JSON in *text*, or `NOTHING`, also where a key that decides is there twice."""
    text = text.strip(_BLANKS)
    try:
        found, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return NOTHING
    return found if end == len(text) else NOTHING


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises `ValueError` where a key that decides is there twice: to take the last one would be a guess."""
    found = dict(pairs)
    if len(found) == len(pairs) and found.keys() <= _DISTINCT:
        return found
    if len(set(map(same_key, found))) < len(pairs):
        decisive = [same for key, _ in pairs if (same := same_key(key)) in _SPELT]
        if len(set(decisive)) < len(decisive):
            raise ValueError(f"a key is there twice: {decisive}")
    return found


def same_key(key: str) -> str:
    """*key* as keys are compared."""
    return key.strip().casefold()


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def storable(text: str) -> str:
    """*text* without lone surrogates, which JSON may hold and UTF-8 can't."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def shown(value: Any, most: int = 200) -> str:
    """*value* in a message, at most *most* characters of it."""
    try:
        text = storable(json.dumps(value, ensure_ascii=False, default=str))
    except RecursionError:
        return "something nested too deep to show"
    return text if len(text) <= most else text[: most - 1] + "…"


def field(content: Any, name: str) -> Any:
    """The value in the object *content* under *name* (as `same_key` gives it); None where nothing does."""
    if isinstance(content, dict):
        if (spelt := _SPELT.get(name)) in content:
            return content[spelt]
        for key, value in content.items():
            if same_key(key) == name:
                return value
    return None


def unwrapped(content: Any) -> Any:
    """An object that D3 serialised as text, or wrapped in a list of one, is the object."""
    if isinstance(content, str) and content.lstrip()[:1] in {"{", "["}:
        found = parsed(content)
        content = content if found is NOTHING else found
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], dict):
        return content[0]
    return content


def unwrapped_list(value: Any) -> list[Any] | None:
    """*value* as a list of entries, also where it is text or a single entry; None when it can't be read as one."""
    if isinstance(value, str):
        found = parsed(value) if value.strip() else []
        value = value if found is NOTHING else found
    if value is None or value == {}:
        return []
    if isinstance(value, dict):
        return [value]
    return value if isinstance(value, list) else None


class ApiResponse(NamedTuple):
    """An answer read to its end. *headers* have lower-case names, *elapsed* is seconds from headers sent to read."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    elapsed: float = 0.0


@dataclass(frozen=True, slots=True)
class TransportFailure:
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
class AmbiguousAnswer:
    """Something answered, and it proves nothing: 3xx, 5xx, HTML, an empty or unreadable body."""

    code: str
    message: str
    status: int


Answer = Reply | Refused | Unauthorized | Throttled | AmbiguousAnswer | TransportFailure


def read(response: ApiResponse, *, retry_after: float | None = None) -> Answer:
    """What *response* proves. *retry_after* is the wait its headers ask for (`policy.retry`), for a 429."""
    body = loads(response.body)
    said = error_text(body) if isinstance(body, dict) else ""
    status = response.status
    if status == 429:  # noqa: PLR2004 - RFC 6585
        return Throttled(said or "Too many requests.", retry_after)
    if status == 401:  # noqa: PLR2004 - RFC 9110
        return Unauthorized(said or "D3 answered 401 Unauthorized.")
    if 400 <= status < 500 and status != 408:  # noqa: PLR2004 - a gateway's 408 may come after D3 was asked
        return Refused(f"http_{status}", said or f"D3 answered HTTP {status}.{_page(response)}", status)
    if status != 200:  # noqa: PLR2004 - D3's pages know no other success
        message = f"HTTP {status} does not say whether it happened.{_page(response)}"
        return AmbiguousAnswer(f"http_{status}", said or message, status)
    if not isinstance(body, dict):
        return AmbiguousAnswer("bad_response", _unreadable(response, body), status)
    return _read_success(body, said)


_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)
_MARKUP = re.compile(r"<(script|style)\b.*?</\1\s*>|<!--.*?-->|<[^>]*>", re.IGNORECASE | re.DOTALL)
_SHOWN = 8192
_SENTENCE = 80


def foreign_page(response: ApiResponse) -> str:
    """What *response* is, in words, where something else answers for D3; "" where D3 may have written it.

    That is JSON, a 401 and a 429, and a 413, with which a gateway refuses one request for its length.
    """
    status = response.status
    if 300 <= status < 400:  # noqa: PLR2004 - RFC 9110; D3's pages know no redirect
        where = response.headers.get("location", "").partition("?")[0][:_SENTENCE]
        return f"HTTP {status} sends to {where or 'nowhere'}"
    start = response.body[:64].removeprefix(BOM_UTF8).lstrip()
    if status in {401, 413, 429} or start[:1] in {b"{", b"["}:
        return ""
    said = _said(response.body)
    return f"{said} answers (HTTP {status})" if said else f"HTTP {status} with an empty answer"


def _said(body: bytes) -> str:
    """The title of a page or the first words of a text, in quotes; "" where there are none."""
    text = body[:_SHOWN].decode("utf-8", "replace")
    title = _TITLE.search(text)
    words = " ".join(html.unescape(_MARKUP.sub(" ", title[1] if title else text)).split())
    if len(words) > _SENTENCE:
        words = f"{words[: _SENTENCE - 1]}…"
    if not words:
        return "a page without words" if body.strip() else ""
    return f"a page titled ‘{words}’" if title else f"‘{words}’"


def _page(response: ApiResponse) -> str:
    said = _said(response.body) if foreign_page(response) else ""
    return f" It {'says' if said.startswith('‘') else 'is'} {said}." if said else ""


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
    return f"HTTP 200 with an answer that is {what}: it does not say whether it happened.{_page(response)}"


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
) -> AmbiguousAnswer | None:
    if not status:
        empty = content in ("", None, [], {})
        message = "D3 answered with nothing in it" if empty else f"D3 answered returnData {shown(content)}"
        return _doubtful("empty_answer" if empty else "bad_response", f"{message}: that proves nothing.")
    if status == "partial" and not errors:
        return _doubtful("bad_response", "D3 reports an error without saying for which incident.")
    if status == "failed" and not errors and remaining is not None:
        return _doubtful("contradiction", "Status says Failed, yet no incident has an error and links are listed.")
    return None


def _doubtful(code: str, message: str) -> AmbiguousAnswer:
    return AmbiguousAnswer(code, message, 200)


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


_DEEPEST = 60
_NOT_PLAIN = re.compile(r"[\W_]+")


def opened(value: Any) -> Any:
    """*value*, or the object or list that it is the text of."""
    if not isinstance(value, str) or value.lstrip()[:1] not in {"{", "["}:
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def plain_key(key: str) -> str:
    """*key* as keys are compared: letters and digits alone, in one case."""
    return _NOT_PLAIN.sub("", key).casefold()


def loose_field(value: Any, name: str) -> Any:
    """The value of the key that reads *name* (plain) in *value*, opened; None where there is no such key."""
    if not isinstance(value, dict):
        return None
    return next((opened(found) for key, found in value.items() if plain_key(key) == name), None)


def objects(value: Any, found: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """The objects in *value* for which *found* says yes, none from inside another, to a depth no answer has."""
    hits: list[dict[str, Any]] = []
    level = [opened(value)]
    for _ in range(_DEEPEST):
        here = [node for node in level if isinstance(node, dict) and found(node)]
        hits += here
        seen = set(map(id, here))
        level = [opened(child) for node in level if id(node) not in seen for child in _children(node)]
        if not level:
            break
    return hits


def _children(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []
