"""Times as D3 tells them, in a handful of forms, mostly without saying in whose zone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_ZONE = r"\s*(?P<zone>[A-Za-z(+\-].*)?"
_ISO = re.compile(r"(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d)(?::(\d\d)(?:\.\d+)?)?" + _ZONE, re.ASCII)
_AMERICAN = re.compile(
    r"(\d{1,2})/(\d{1,2})/(\d{4}),? (\d{1,2}):(\d\d)(?::(\d\d))?(?:\s*(?P<half>[AP]M)\b)?" + _ZONE,
    re.ASCII | re.IGNORECASE,
)
_SPELT = re.compile(r"([A-Z][a-z]{2})[a-z]* (\d{1,2}), (\d{4}),? (\d{1,2}):(\d\d)(?::(\d\d))?" + _ZONE, re.ASCII)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_OFFSET = re.compile(r"\(?(?:UTC|GMT)?([+-])(\d\d):?(\d\d)\b.*", re.ASCII)
_NOON = 12
_FARTHEST_WEST = timedelta(hours=12)
_CLOCKS = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class ToldTime:
    """A time as it was written. *offset* from UTC is None where the zone is not told, or only by a Windows name."""

    written: datetime
    offset: timedelta | None
    seconds: bool

    def before(self, at: float) -> bool:
        """Whether it was surely before *at*, seconds since 1970; clocks may differ by a minute."""
        moment = datetime.fromtimestamp(at, UTC).replace(tzinfo=None) - _CLOCKS
        if self.offset is not None:
            return self.written - self.offset < moment
        return self.written < moment - _FARTHEST_WEST

    def same(self, other: datetime) -> bool:
        """Whether it is written as *other* is, as exactly as it tells."""
        return self.written == (other if self.seconds else other.replace(second=0))


def told_time(text: str) -> ToldTime | None:
    """The time that *text* is, and nothing else."""
    text = text.strip()
    for form, order in ((_ISO, (0, 1, 2)), (_AMERICAN, (2, 0, 1)), (_SPELT, (2, 0, 1))):
        if found := form.fullmatch(text):
            return _read(found, order)
    return None


def _read(found: re.Match[str], order: tuple[int, int, int]) -> ToldTime | None:
    parts = found.groups()[:6]
    year, month, day = (parts[place] for place in order)
    hour, minute, second = parts[3:6]
    groups = found.groupdict()
    try:
        written = datetime(  # noqa: DTZ001 - its zone stands beside it, if anywhere
            int(year), _month(month), int(day), _hour(int(hour), groups.get("half")), int(minute), int(second or 0)
        )
    except ValueError:
        return None
    return ToldTime(written, _offset(groups["zone"] or ""), second is not None)


def _month(text: str) -> int:
    return int(text) if text.isdecimal() else _MONTHS.index(text) + 1


def _hour(hour: int, half: str | None) -> int:
    if half is None:
        return hour
    return hour % _NOON + (_NOON if half.upper() == "PM" else 0)


def _offset(zone: str) -> timedelta | None:
    if zone.strip().upper() in {"Z", "UTC", "GMT", "(UTC)"}:
        return timedelta(0)
    found = _OFFSET.fullmatch(zone.strip())
    if not found:
        return None
    ahead = timedelta(hours=int(found[2]), minutes=int(found[3]))
    return ahead if found[1] == "+" else -ahead
