"""Due Date cells as D3 takes them: one meaning or none, never a guess."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from typing import TYPE_CHECKING

from pydantic_core import PydanticCustomError

from d3async.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

_ISO = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?: ?(?:Z|[+-]\d\d(?::?\d\d)?))?)?",
    re.ASCII | re.IGNORECASE,
)
_SLASHED = re.compile(
    r"(\d{1,4})([/.-])(\d{1,2})\2(\d{4}|\d{1,2})(?:([ T])\d{1,2}:\d\d(:\d\d)?( ?[AaPp][Mm])?)?", re.ASCII
)
_BLANK_BEFORE_ZONE = re.compile(r" (?=[Z+-])")
_SERIAL = re.compile(r"\d{5}(?:\.\d+)?", re.ASCII)
_TOKENS = re.compile(r"yyyy|yy|MMMM|MMM|MM|M|dd|d|HH|H|hh|h|mm|m|ss|s|tt|a|zzz|XXX|'[^']*'|.", re.DOTALL)
_DIRECTIVES = {
    "yyyy": "%Y", "yy": "%y", "MMMM": "%B", "MMM": "%b", "MM": "%m", "M": "%m", "dd": "%d", "d": "%d",
    "HH": "%H", "H": "%H", "hh": "%I", "h": "%I", "mm": "%M", "m": "%M", "ss": "%S", "s": "%S",
    "tt": "%p", "a": "%p", "zzz": "%z", "XXX": "%z", "%": "%%",
}  # fmt: skip
_NEEDED = (("yY", "the year"), ("mbB", "the month"), ("d", "the day"))
_PLAIN = "is not a date like 2026-12-31 17:00:00"
_OWN = len("yyyy-MM-dd HH:mm:ss")
_MONTHS = 12
_T = "'T'"


@dataclass(frozen=True, slots=True)
class Zones:
    """*written* is the zone cells without an offset are written in, *server* the one D3 takes. None: unknown."""

    written: tzinfo | None = None
    server: tzinfo | None = None


def due_reader(date_format: str | None = None, zones: Zones | None = None) -> Callable[[object], str]:
    """What turns a Due Date cell into D3's `yyyy-MM-dd HH:mm:ss`; it raises `PydanticCustomError`.

    *date_format* is written like `dd/MM/yyyy HH:mm` or, with `%`, as for `strptime`. D3's own form, ISO 8601 with the
    year first and date cells of a workbook are taken too. Raises `SettingsError` for what cannot be used.
    """
    zones = zones or Zones()
    if zones.written is not None and zones.server is None:
        raise SettingsError(
            "--time-zone needs --server-time-zone: the zone that D3 takes due dates in", code="date_format"
        )
    pattern = strptime_pattern(date_format) if date_format is not None else None
    as_it_is = pattern is None and zones.server is None

    def due(value: object) -> str:
        if isinstance(value, str):
            text = value.strip()
            if as_it_is and _is_own(text):
                return text
            if not text:
                raise PydanticCustomError("empty", "is empty")
            found = _formatted(text, pattern, date_format or "") if pattern else _iso(text)
        elif isinstance(value, date):
            found = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)  # noqa: DTZ001
        else:
            raise _wrong(_PLAIN)
        return _converted(found, zones)

    return due


def strptime_pattern(date_format: str) -> str:
    """*date_format* as `strptime` takes it. Raises `SettingsError` unless it says year, month and day."""
    pattern = date_format if "%" in date_format else "".join(map(_directive, _TOKENS.findall(date_format)))
    used = re.findall(r"%(.)", pattern.replace("%%", ""))
    for letters, what in _NEEDED:
        if not set(letters) & set(used):
            raise SettingsError(f'--date-format "{date_format}" lacks {what}: it is written like dd/MM/yyyy HH:mm')
    if "Z" in used:
        raise SettingsError(f'--date-format "{date_format}": zone names are not read; give --time-zone')
    if "I" in used and "p" not in used:
        raise SettingsError(f'--date-format "{date_format}" has hours to 12 and no AM/PM: write HH, or add tt')
    try:
        sample = datetime(2001, 2, 3, 4, 5, 6)  # noqa: DTZ001 - any date will do
        datetime.strptime(sample.strftime(pattern.replace("%z", "+0000")), pattern)  # noqa: DTZ007
    except (ValueError, re.error) as error:
        raise SettingsError(f'--date-format "{date_format}" cannot be used: {error}') from None
    return pattern


def _directive(token: str) -> str:
    if token.startswith("'"):
        return token[1:-1].replace("%", "%%")
    return _DIRECTIVES.get(token, token)


def _is_own(text: str) -> bool:
    """Whether *text* is D3's own form; a short cut, `_iso` says the same more slowly."""
    if len(text) != _OWN or text[7] != "-" or text[10] != " " or text[13] != ":" or text[16] != ":":
        return False
    try:
        return bool(datetime.fromisoformat(text))
    except ValueError:
        return False


def _formatted(text: str, pattern: str, date_format: str) -> datetime:
    try:
        return datetime.strptime(text, pattern)  # noqa: DTZ007 - a zone is added where one is known
    except ValueError as error:
        if _ISO.fullmatch(text) and not _day_before_month(pattern):
            return _iso(text)
        if "out of range" in str(error):
            raise _wrong("is no real date") from None
        choices = formats_of(text)
        raise _wrong(f"is not written as {date_format}", _cure(choices)) from None


def _day_before_month(pattern: str) -> bool:
    """Whether year, day, month stand in that order: a text that looks like ISO 8601 is none then."""
    return -1 < pattern.find("%Y") < pattern.find("%d") < pattern.find("%m")


def _iso(text: str) -> datetime:
    if not _ISO.fullmatch(text):
        raise _unclear(text)
    try:
        return datetime.fromisoformat(_BLANK_BEFORE_ZONE.sub("", text.upper()))
    except ValueError:
        raise _wrong("is no real date") from None


def _unclear(text: str) -> PydanticCustomError:
    """Why *text* has no certain meaning, and the option that would give it one."""
    if _SERIAL.fullmatch(text):
        return _wrong("is a number, not a date", "format the column as a date in Excel")
    choices = formats_of(text)
    if not choices or choices[0].startswith("yyyy"):
        return _wrong(_PLAIN, _cure(choices))
    return _wrong("day or month first?", _cure(choices))


def formats_of(text: str) -> list[str]:
    """The `--date-format`s that *text* could be written in; none for a text that needs no format."""
    found = _SLASHED.fullmatch(text)
    if found is None:
        return []
    first, separator, second, third, gap, seconds, half = found.groups()
    tail = ""
    if gap:
        hours = "hh" if half else "HH"
        tail = f"{gap if gap == ' ' else _T}{hours}:mm{':ss' if seconds else ''}{' tt' if half else ''}"
    if len(first) == len("yyyy"):
        return [f"yyyy{separator}MM{separator}dd{tail}"]
    year = "yyyy" if len(third) == len("yyyy") else "yy"
    day_first, month_first = int(second) <= _MONTHS, int(first) <= _MONTHS
    return [f"dd{separator}MM{separator}{year}{tail}"] * day_first + [
        f"MM{separator}dd{separator}{year}{tail}"
    ] * month_first


def _cure(choices: list[str]) -> str:
    shown = " or ".join(f'"{choice}"' if " " in choice else choice for choice in choices)
    return f"give --date-format {shown}" if choices else ""


def _converted(found: datetime, zones: Zones) -> str:
    if found.tzinfo is None and zones.written is not None:
        _check_once(found, zones.written)
        found = found.replace(tzinfo=zones.written)
    if found.tzinfo is not None:
        if zones.server is None:
            raise _wrong("has a time zone and D3 takes none", "give --server-time-zone: times are then converted to it")
        try:
            found = found.astimezone(zones.server).replace(tzinfo=None)
        except OverflowError:
            raise _wrong("is no real date") from None
        _check_once(found, zones.server)
    elif zones.server is not None:
        _check_exists(found, zones.server)
    return found.isoformat(" ", "seconds")


def _check_exists(found: datetime, zone: tzinfo) -> None:
    if _offsets(found, zone)[0] < _offsets(found, zone)[1]:
        raise _wrong(f"does not exist in {zone}: clocks are put forward then", "choose another time")


def _check_once(found: datetime, zone: tzinfo) -> None:
    _check_exists(found, zone)
    before, after = _offsets(found, zone)
    if before > after:
        raise _wrong(
            f"comes twice in {zone}: clocks are put back then", "write it with its offset, or choose another time"
        )


def _offsets(found: datetime, zone: tzinfo) -> tuple[float, float]:
    first, second = (found.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    return (first.total_seconds() if first else 0.0, second.total_seconds() if second else 0.0)


def _wrong(message: str, cure: str = "") -> PydanticCustomError:
    return PydanticCustomError("due", "{wrong}", {"wrong": message, "cure": cure})
