"""How a server may count requests, and what goes wrong with which: faults, answers that lie."""

from __future__ import annotations

import json
import math
import re
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from itertools import repeat
from typing import Literal, Protocol, assert_never

from d3async.sandbox.answers import HTML, Answer, Json, encode, error, page, refused, success
from d3async.sandbox.commands import Ask

Kind = Literal["error", "drop", "hang", "cut", "page", "redirect", "mangle", "raw", "huge", "drip", "bomb", "headers"]
Plan = Mapping[str, float] | Sequence[str | None] | Callable[[Ask], str | None]
"""Shares by fault name; or a fault (or None) for each request in turn; or a rule."""

REMOVE = "RemoveLinkedIncidents"
MAX_LIST = "max-list"
_ERROR = re.compile(r"error-([45]\d\d)(?:-(before|after))?")


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to go wrong; *effect* tells whether the command is carried out all the same."""

    name: str
    kind: Kind
    says: str
    effect: bool = True
    only: str | None = None
    """The one command that it can hit."""
    status: int = 0


_ALL = (
    Fault("drop-before", "drop", "the connection closes without an answer", effect=False),
    Fault("drop-after", "drop", "the connection closes without an answer, the command was carried out"),
    Fault("hang", "hang", "no answer comes, the command was carried out"),
    Fault("hang-before", "hang", "no answer comes", effect=False),
    Fault("cut-body", "cut", "the answer ends in the middle"),
    Fault("html-200", "page", "a login page with status 200", effect=False, status=200),
    Fault("redirect", "redirect", "a 307 to another host", effect=False, status=307),
    Fault("foreign-error-data", "mangle", "ErrorData names an incident that was not in the request", only=REMOVE),
    Fault("repeated-error-data", "mangle", "ErrorData says everything twice", only=REMOVE),
    Fault("missing-error-data", "mangle", "ErrorData is left out", only=REMOVE),
    Fault("odd-case-error-data", "mangle", "ErrorData in another letter case, keys and numbers", only=REMOVE),
    Fault("other-data-key", "mangle", "Data under a key worded differently", only=REMOVE),
    Fault("wrong-status", "mangle", "a Status that contradicts ErrorData", only=REMOVE),
    Fault("still-linked", "mangle", "the first link stays, Data shows it, no error says so", only=REMOVE),
    Fault("string-return-data", "mangle", "returnData is JSON inside a string", only=REMOVE),
    Fault("empty-answer", "mangle", "error and returnData are both empty", effect=False),
    Fault("ansi-message", "mangle", "an error text full of terminal escapes", effect=False),
    Fault("deep-json", "raw", "arrays nested 100,000 deep"),
    Fault("invalid-utf8", "raw", "bytes that are no UTF-8 inside a string"),
    Fault("duplicate-keys", "raw", "every key twice, the second time saying the opposite"),
    Fault("huge-body", "huge", "an answer of 256 MB"),
    Fault("slow-drip", "drip", "the answer byte by byte"),
    Fault("gzip-bomb", "bomb", "256 KB that unpack to 256 MB"),
    Fault("set-cookie", "headers", "an answer that sets a cookie"),
    Fault("giant-header", "headers", "an answer with a header of 1 MB"),
)
FAULTS: Mapping[str, Fault] = {fault.name: fault for fault in _ALL}


def find_fault(name: str) -> Fault:
    """Give the fault of that name, `error-NNN[-before|-after]` included; raises ValueError."""
    if name in FAULTS:
        return FAULTS[name]
    if match := _ERROR.fullmatch(name):
        after = match[2] == "after"
        says = f"status {match[1]}" + (", the command was carried out" if after else "")
        return Fault(name, "error", says, effect=after, status=int(match[1]))
    raise ValueError(f"no fault {name!r}; there are {', '.join(FAULTS)}, error-NNN-before, error-NNN-after, {MAX_LIST}")


class Faults:
    """Picks the fault for each request. *draw* gives numbers in [0, 1); raises ValueError for a plan that cannot be."""

    def __init__(self, plan: Plan | None, draw: Callable[[], float]) -> None:
        self._draw = draw
        self._rule: Callable[[Ask], str | None] = lambda _: None
        self.max_list = 0
        match plan:
            case None:
                pass
            case Mapping():
                self._rule = self._by_share(plan)
            case Sequence():
                self._rule = _by_script(plan)
            case _:
                self._rule = plan

    def pick(self, ask: Ask) -> Fault | None:
        """Decide over one request; a fault that cannot hit its command is none."""
        name = self._rule(ask)
        fault = find_fault(name) if name else None
        return fault if fault and fault.only in {None, ask.command} else None

    def _by_share(self, plan: Mapping[str, float]) -> Callable[[Ask], str | None]:
        shares = {find_fault(name): share for name, share in plan.items() if name != MAX_LIST}
        self.max_list = int(plan.get(MAX_LIST, 0))
        if any(not 0 <= share <= 1 for share in shares.values()) or sum(shares.values()) > 1 + 1e-9:
            raise ValueError("shares lie between 0 and 1, and all together are at most 1")

        def rule(ask: Ask) -> str | None:
            left = self._draw() if shares else 1.0
            for fault, share in shares.items():
                if fault.only in {None, ask.command}:
                    left -= share
                    if left < 0:
                        return fault.name
            return None

        return rule


def _by_script(plan: Sequence[str | None]) -> Callable[[Ask], str | None]:
    for name in filter(None, plan):
        find_fault(name)
    script = iter(plan)
    return lambda _: next(script, None)


DEPTH = 100_000
MEGABYTE = 1024 * 1024
HUGE_MEGABYTES = 256
_BEGIN, _FILLING, _END = b'{"error": "", "returnData": "', b"x" * MEGABYTE, b'"}'
ANSI_TEXT = "\x1b[2J\x1b[31mAll tasks deleted\x1b[0m\r\n\x07\x1b]0;owned\x07\x9b1m \u202egnorts"


def spoil(fault: Fault, body: Json, *, elsewhere: str) -> Answer | None:
    """Turn the honest *body* into the answer that *fault* gives; None for a fault of the sending.

    A redirect points to *elsewhere*.
    """
    shape = _SHAPES.get(fault.kind)
    return shape(fault, body, elsewhere) if shape else None


def huge_body() -> Iterator[bytes]:
    """Yield a JSON object with one string of 256 MB, in pieces."""
    yield _BEGIN
    yield from repeat(_FILLING, HUGE_MEGABYTES)
    yield _END


def gzip_bomb() -> Iterator[bytes]:
    """Yield the same packed a thousand times smaller, as one gzip stream."""
    packed = {piece: _packed(piece) for piece in (_BEGIN, _FILLING, _END)}
    crc = size = 0
    yield b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    for piece in huge_body():
        crc, size = zlib.crc32(piece, crc), size + len(piece)
        yield packed[piece]
    yield b"\x03\0" + struct.pack("<II", crc, size)


def _packed(piece: bytes) -> bytes:
    # After a full flush nothing before it is referred to, so the same bytes fit in anywhere.
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)


def _foreign(body: Json) -> Json:
    _error_data(body).append({"Incident Number": "20190101-1", "Error message": "This incident is closed."})
    return body


def _repeated(body: Json) -> Json:
    _error_data(body).extend([dict(item) for item in _error_data(body)])
    return body


def _missing(body: Json) -> Json:
    _return_data(body).pop("ErrorData", None)
    return body


def _odd_case(body: Json) -> Json:
    _error_data(body)[:] = [
        {"Incident number": item["Incident Number"].swapcase(), "Error Message": item["Error message"]}
        for item in _error_data(body)
    ]
    return body


def _other_key(body: Json) -> Json:
    if "Data" in _return_data(body):
        (remaining,) = body["returnData"]["Data"].values()
        body["returnData"]["Data"] = {"Linked incidents left": remaining}
    return body


def _wrong_status(body: Json) -> Json:
    if _return_data(body):
        body["returnData"]["Status"] = "Successful" if _error_data(body) else "Failed"
    return body


def _as_string(body: Json) -> Json:
    return {**body, "returnData": json.dumps(body["returnData"])}


def _return_data(body: Json) -> Json:
    found = body["returnData"]
    return found if isinstance(found, dict) else {}


def _error_data(body: Json) -> list[Json]:
    found: list[Json] = _return_data(body).get("ErrorData", [])
    return found


def _deep(_body: Json) -> bytes:
    return b'{"error": "", "returnData": ' + b"[" * DEPTH + b"]" * DEPTH + b"}"


def _invalid_utf8(body: Json) -> bytes:
    return encode(body).replace(b"ccess", b"cc\xff\xfe\xc3ess")


def _duplicate_keys(body: Json) -> bytes:
    opposite = refused("Unexpected Error.")
    return encode(body)[:-1] + b", " + encode(opposite)[1:]


_MANGLERS: Mapping[str, Callable[[Json], Json]] = {
    "foreign-error-data": _foreign,
    "repeated-error-data": _repeated,
    "missing-error-data": _missing,
    "odd-case-error-data": _odd_case,
    "other-data-key": _other_key,
    "wrong-status": _wrong_status,
    "still-linked": lambda body: body,
    "string-return-data": _as_string,
    "empty-answer": lambda _: {"error": "", "returnData": ""},
    "ansi-message": lambda _: refused(ANSI_TEXT),
}
_RAW: Mapping[str, Callable[[Json], bytes]] = {
    "deep-json": _deep,
    "invalid-utf8": _invalid_utf8,
    "duplicate-keys": _duplicate_keys,
}
_HEADERS: Mapping[str, tuple[str, str]] = {
    "set-cookie": ("Set-Cookie", "session=tracked; Path=/"),
    "giant-header": ("X-Debug", "x" * MEGABYTE),
}
_SHAPES: Mapping[Kind, Callable[[Fault, Json, str], Answer]] = {
    "error": lambda fault, _body, _elsewhere: error(fault.status),
    "page": lambda fault, _body, _elsewhere: page(fault.status),
    "redirect": lambda fault, _body, elsewhere: Answer(fault.status, b"moved", HTML, (("Location", elsewhere),)),
    "mangle": lambda fault, body, _elsewhere: success(_MANGLERS[fault.name](body)),
    "raw": lambda fault, body, _elsewhere: Answer(200, _RAW[fault.name](body)),
    "headers": lambda fault, body, _elsewhere: Answer(200, encode(body), headers=(_HEADERS[fault.name],)),
}


LimitKind = Literal["fixed", "sliding", "counting", "bucket", "nginx"]
LIMIT_KINDS: tuple[LimitKind, ...] = ("fixed", "sliding", "counting", "bucket", "nginx")


class Limit(Protocol):
    """Decides over one request that arrives at *now* (seconds on any steady clock)."""

    def ask(self, now: float) -> float:
        """Return 0.0 and count the request, or the seconds after which it would have been let in."""


def make_limit(kind: LimitKind, rate: float, burst: float | None = None) -> Limit:
    """Build the limit that lets *rate* requests a second in.

    *burst* is the bucket's capacity (default: one second's worth) or nginx's `burst=` (default 0);
    the windows have none.
    """
    match kind:
        case "fixed":
            return FixedWindow(max(1, int(rate)))
        case "sliding":
            return SlidingLog(max(1, int(rate)))
        case "counting":
            return SlidingLog(max(1, int(rate)), counts_refused=True)
        case "bucket":
            return TokenBucket(rate, max(1.0, rate if burst is None else burst))
        case "nginx":
            return NginxMeter(rate, int(burst or 0))
    assert_never(kind)


@dataclass(slots=True)
class FixedWindow:
    """At most *limit* requests in each whole second; what Redis `INCR` limiters do."""

    limit: int
    _window: int = -1
    _count: int = 0

    def ask(self, now: float) -> float:
        """See `Limit.ask`."""
        window = math.floor(now)
        if window != self._window:
            self._window, self._count = window, 0
        if self._count >= self.limit:
            return window + 1 - now
        self._count += 1
        return 0.0


@dataclass(slots=True)
class SlidingLog:
    """At most *limit* requests in any second; with *counts_refused* the refused ones fill the log too."""

    limit: int
    counts_refused: bool = False
    _log: deque[float] = field(default_factory=deque)

    def ask(self, now: float) -> float:
        """See `Limit.ask`."""
        log = self._log
        while log and log[0] <= now - 1.0:
            log.popleft()
        full = len(log) >= self.limit
        if not full or self.counts_refused:
            log.append(now)
        # From here on *limit* entries back decides: when it leaves the log, one place is free.
        return max(log[-self.limit] + 1.0 - now, 1e-9) if full else 0.0


@dataclass(slots=True)
class TokenBucket:
    """*capacity* tokens, full at first, refilled with *rate* a second; a request takes one."""

    rate: float
    capacity: float
    _tokens: float = -1.0
    _at: float = 0.0

    def ask(self, now: float) -> float:
        """See `Limit.ask`."""
        if self._tokens < 0:
            self._tokens, self._at = self.capacity, now
        self._tokens = min(self.capacity, self._tokens + (now - self._at) * self.rate)
        self._at = now
        if self._tokens < 1.0 - 1e-9:
            return (1.0 - self._tokens) / self.rate
        self._tokens = max(0.0, self._tokens - 1.0)
        return 0.0


@dataclass(slots=True)
class NginxMeter:
    """nginx `limit_req rate=…r/s burst=… nodelay`: a leaky bucket in whole milliseconds; refusals are free.

    Source: nginx/src/http/modules/ngx_http_limit_req_module.c, `ngx_http_limit_req_lookup`.
    """

    rate: float
    burst: int = 0
    _excess: int = -1
    _last: int = 0

    def ask(self, now: float) -> float:
        """See `Limit.ask`."""
        at, per_second = int(now * 1000), int(self.rate * 1000)
        if self._excess < 0:
            self._excess, self._last = 0, at
            return 0.0
        excess = max(0, self._excess - per_second * max(0, at - self._last) // 1000 + 1000)
        if excess > self.burst * 1000:
            return (excess - self.burst * 1000) / per_second
        self._excess, self._last = excess, at
        return 0.0


RetryAfter = Literal["none", "seconds", "decimal", "date"] | float


def retry_after(form: RetryAfter, wait: float, wall_clock: float) -> str | None:
    """Write the Retry-After header for a *wait* in seconds; a number as *form* is sent whatever the wait."""
    match form:
        case "none":
            return None
        case "seconds":
            return str(max(1, math.ceil(wait)))
        case "decimal":
            return f"{wait:.3f}"
        case "date":
            return formatdate(math.ceil(wall_clock + wait), usegmt=True)
        case number:
            return f"{number:g}"
