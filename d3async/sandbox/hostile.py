"""Answers no client should trust: well-formed ones that lie, and bytes that hurt."""

import json
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from itertools import repeat

from d3async.sandbox.answers import HTML, Answer, Json, encode, error, page, refused, success
from d3async.sandbox.faults import Fault, Kind

DEPTH = 100_000
MEGABYTE = 1024 * 1024
HUGE_MEGABYTES = 256
_BEGIN, _FILLING, _END = b'{"error": "", "returnData": "', b"x" * MEGABYTE, b'"}'
ANSI_TEXT = "\x1b[2J\x1b[31mAll tasks deleted\x1b[0m\r\n\x07\x1b]0;owned\x07\x9b1m \u202egnorts"


def spoil(fault: Fault, body: Json, *, elsewhere: str) -> Answer | None:
    """Turn the honest *body* into the answer that *fault* gives; None for a fault that lies in the sending.

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
