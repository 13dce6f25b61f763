"""Rows of a JSONL file: one object a line."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from d3async.files.source import LINE_LIMIT, Format, text_of
from d3async.jobs.job import Invalid, Problem, Row

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator

    from d3async.files.source import InputFile, Scan

_ZERO = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_ONE_A_LINE = "is JSON over several lines; one object a line is needed: jq -c '.[]' or '.' writes it so"


class JsonlRows:
    """A JSONL file. Iterating starts at the first line, as often as wanted."""

    header: tuple[str, ...] = ()

    def __init__(self, source: InputFile, scan: Scan) -> None:
        self._source = source
        self._scan = scan
        with text_of(source, scan, "") as text:
            first = next((line for line in iter(lambda: text.readline(LINE_LIMIT), "") if line.strip()), "")
        if not first:
            raise source.error("has no rows")
        if first.strip() in {"{", "["} or first.lstrip().startswith("[{"):
            raise source.error(_ONE_A_LINE)
        bare = first.rstrip("\r\n")
        self.format = Format(
            kind="jsonl",
            encoding="utf-8-sig" if scan.bom and scan.encoding == "utf-8" else scan.encoding,
            bom=scan.bom,
            line_ending=first[len(bare) :] or "\n",
            doubts=scan.doubts,
        )

    def __iter__(self) -> Iterator[Row | Invalid]:
        """Rows in order; blank lines and those that start with `#` are none."""
        with text_of(self._source, self._scan, "") as text:
            number = line = 0
            while read := text.readline(LINE_LIMIT):
                line += 1
                raw = read.strip()
                if not raw or raw.startswith("#"):
                    continue
                number += 1
                if len(read) == LINE_LIMIT:
                    _skip_line(text, read)
                    yield _invalid(number, line, raw[:80], "size", f"is longer than {LINE_LIMIT:,} characters")
                else:
                    yield read_row(number, line, raw)


def read_row(number: int, line: int, raw: str) -> Row | Invalid:
    """The row that the text of one line holds."""
    try:
        found = json.loads(raw, object_pairs_hook=_unique, parse_constant=_refuse)
        if "\\ud" in raw or "\\uD" in raw:
            json.dumps(found, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        return _invalid(number, line, raw, "json", f"is not JSON: {error.msg.lower()} at column {error.colno}")
    except UnicodeEncodeError:
        return _invalid(number, line, raw, "json", "has half a character (\\ud800 to \\udfff without its other half)")
    except (ValueError, RecursionError) as error:
        return _invalid(number, line, raw, "json", _what(error))
    if _ZERO.search(raw):
        return _invalid(number, line, raw, "nul", "has a zero byte (\\u0000)")
    if not isinstance(found, dict):
        return _invalid(number, line, raw, "json", 'is no JSON object like {"incident": "20220125-1"}')
    return Row(number, line, tuple(found), tuple(found.values()), raw)


def _what(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    return str(error) if isinstance(error, _RefusedError) else "has a number too long to read"


class _RefusedError(ValueError):
    """JSON that is read by most and means nothing certain."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _RefusedError(f'has the key "{twice}" twice')
    return found


def _refuse(constant: str) -> None:
    raise _RefusedError(f"has {constant}, which JSON does not know")


def _skip_line(text: io.TextIOWrapper, read: str) -> None:
    while read and not read.endswith(("\n", "\r")):
        read = text.readline(LINE_LIMIT)


def _invalid(number: int, line: int, raw: str, code: str, message: str) -> Invalid:
    return Invalid(number, line, raw, (Problem(code, "", raw[:80], message),))
