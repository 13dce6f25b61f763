"""Due dates: one meaning or an error that says what would give it one."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from d3async.errors import SettingsError
from d3async.jobs.dates import Zones, due_reader, strptime_pattern

PARIS, NEW_YORK = ZoneInfo("Europe/Paris"), ZoneInfo("America/New_York")
BOTH = Zones(PARIS, NEW_YORK)
SERVER = Zones(None, PARIS)
ZONED = "has a time zone and D3 takes none"
CONVERT = "give --server-time-zone: times are then converted to it"
NO_DATE = "is not a date like 2026-12-31 17:00:00"


@pytest.mark.parametrize(
    ("cell", "due"),
    [
        ("2026-12-31 17:00:00", "2026-12-31 17:00:00"),
        ("  2026-12-31 17:00:00\t", "2026-12-31 17:00:00"),
        ("2026-12-31T17:00:00", "2026-12-31 17:00:00"),
        ("2026-12-31t17:00", "2026-12-31 17:00:00"),
        ("2026-12-31 17:00", "2026-12-31 17:00:00"),
        ("2026-12-31 17:00:59.999", "2026-12-31 17:00:59"),
        ("2026-12-31", "2026-12-31 00:00:00"),
        ("0999-01-02 03:04:05", "0999-01-02 03:04:05"),
        (datetime(2026, 3, 4, 5, 6, 7), "2026-03-04 05:06:07"),  # noqa: DTZ001 - a cell of Excel has no zone
        (date(2026, 3, 4), "2026-03-04 00:00:00"),
    ],
)
def test_what_means_one_thing_is_taken(cell: object, due: str) -> None:
    assert due_reader()(cell) == due


@pytest.mark.parametrize(
    ("cell", "message", "cure"),
    [
        ("", "is empty", ""),
        ("03/04/2026", "day or month first?", "give --date-format dd/MM/yyyy or MM/dd/yyyy"),
        ("24/03/2026", "day or month first?", "give --date-format dd/MM/yyyy"),
        ("03/24/2026", "day or month first?", "give --date-format MM/dd/yyyy"),
        ("24.03.2026 09:30", "day or month first?", 'give --date-format "dd.MM.yyyy HH:mm"'),
        ("24-03-2026 09:30:15", "day or month first?", 'give --date-format "dd-MM-yyyy HH:mm:ss"'),
        ("3/24/2026 9:30 PM", "day or month first?", 'give --date-format "MM/dd/yyyy hh:mm tt"'),
        ("24/03/26", "day or month first?", "give --date-format dd/MM/yy"),
        ("2026/03/24", NO_DATE, "give --date-format yyyy/MM/dd"),
        ("2026-3-4", NO_DATE, "give --date-format yyyy-MM-dd"),
        ("44/44/2026", NO_DATE, ""),
        ("2026-02-30", "is no real date", ""),
        ("2026-02-29 10:00:00", "is no real date", ""),
        ("2026-12-31 24:30:00", "is no real date", ""),
        ("2026-W53-4 17:00:00", NO_DATE, ""),
        ("20261231T170000.100", NO_DATE, ""),
        ("2026-12-31 17:00+01", ZONED, CONVERT),
        ("2026-12-31T17:00:00Z", ZONED, CONVERT),
        ("46112.5", "is a number, not a date", "format the column as a date in Excel"),
        ("tomorrow", NO_DATE, ""),
        ("\uff12026-12-31 17:00:00", NO_DATE, ""),
        (46112, NO_DATE, ""),
        (None, NO_DATE, ""),
        (True, NO_DATE, ""),
    ],
)  # fmt: skip
def test_what_does_not_is_refused_with_its_cure(cell: object, message: str, cure: str) -> None:
    with pytest.raises(PydanticCustomError) as caught:
        due_reader()(cell)

    assert (caught.value.message(), (caught.value.context or {}).get("cure", "")) == (message, cure)


@pytest.mark.parametrize(
    ("date_format", "cell", "due"),
    [
        ("dd/MM/yyyy", "03/04/2026", "2026-04-03 00:00:00"),
        ("MM/dd/yyyy", "03/04/2026", "2026-03-04 00:00:00"),
        ("%d/%m/%Y", "03/04/2026", "2026-04-03 00:00:00"),
        ("dd.MM.yyyy HH:mm", "3.4.2026 9:05", "2026-04-03 09:05:00"),
        ("d/M/yyyy h:mm tt", "3/4/2026 12:05 am", "2026-04-03 00:05:00"),
        ("MM/dd/yyyy hh:mm:ss tt", "04/03/2026 09:05:01 PM", "2026-04-03 21:05:01"),
        ("dd MMM yyyy", "24 Mar 2026", "2026-03-24 00:00:00"),
        ("dd/MM/yy", "24/03/26", "2026-03-24 00:00:00"),
        ("yyyy/MM/dd'T'HH:mm", "2026/03/24T10:00", "2026-03-24 10:00:00"),
        ("dd.MM.yyyy 'um' HH.mm", "24.03.2026 um 10.30", "2026-03-24 10:30:00"),
        ("dd/MM/yyyy", "2026-03-04 10:00:00", "2026-03-04 10:00:00"),
        ("dd/MM/yyyy", datetime(2026, 3, 4), "2026-03-04 00:00:00"),  # noqa: DTZ001 - as above
        ("yyyy-dd-MM", "2026-04-03", "2026-03-04 00:00:00"),
    ],
)
def test_a_format_says_what_is_meant(date_format: str, cell: object, due: str) -> None:
    """The user's format, D3's own form and date cells; both ways of writing a format."""
    assert due_reader(date_format)(cell) == due


@pytest.mark.parametrize(
    ("date_format", "cell", "message", "cure"),
    [
        ("dd/MM/yyyy", "24/03/2026 10:00", "is not written as dd/MM/yyyy", 'give --date-format "dd/MM/yyyy HH:mm"'),
        ("dd/MM/yyyy HH:mm", "24/03/2026", "is not written as dd/MM/yyyy HH:mm", "give --date-format dd/MM/yyyy"),
        ("dd/MM/yyyy", "03/24/2026", "is not written as dd/MM/yyyy", "give --date-format MM/dd/yyyy"),
        ("dd/MM/yyyy", "31/02/2026", "is no real date", ""),
        ("dd/MM/yyyy", "2026-02-30", "is no real date", ""),
        ("yyyy-dd-MM", "2026-04-13", "is not written as yyyy-dd-MM", "give --date-format yyyy-MM-dd"),
    ],
)
def test_what_a_format_does_not_fit_is_refused(date_format: str, cell: str, message: str, cure: str) -> None:
    with pytest.raises(PydanticCustomError) as caught:
        due_reader(date_format)(cell)

    assert (caught.value.message(), (caught.value.context or {}).get("cure", "")) == (message, cure)


@pytest.mark.parametrize(
    ("date_format", "message"),
    [
        ("dd/MM", '--date-format "dd/MM" lacks the year: it is written like dd/MM/yyyy HH:mm'),
        ("HH:mm", '--date-format "HH:mm" lacks the year: it is written like dd/MM/yyyy HH:mm'),
        ("MM/yyyy", '--date-format "MM/yyyy" lacks the day: it is written like dd/MM/yyyy HH:mm'),
        (
            "dd/MM/yyyy hh:mm",
            '--date-format "dd/MM/yyyy hh:mm" has hours to 12 and no AM/PM: write HH, or add tt',
        ),
        ("%d/%m/%Y %Z", '--date-format "%d/%m/%Y %Z": zone names are not read; give --time-zone'),
    ],
)
def test_a_format_that_leaves_something_open_is_refused(date_format: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        strptime_pattern(date_format)

    assert caught.value.message == message


@pytest.mark.parametrize("date_format", ["dd dd MM yyyy", "%d/%m/%Y %Q"])
def test_a_format_strptime_cannot_read_is_refused(date_format: str) -> None:
    with pytest.raises(SettingsError, match="cannot be used"):
        strptime_pattern(date_format)


@pytest.mark.parametrize(
    ("zones", "cell", "due"),
    [
        (BOTH, "2026-12-31 17:00:00", "2026-12-31 11:00:00"),
        (BOTH, "2026-07-01 00:30:00", "2026-06-30 18:30:00"),
        (BOTH, "2026-12-31T17:00:00Z", "2026-12-31 12:00:00"),
        (BOTH, "2026-10-25T02:30:00+02:00", "2026-10-24 20:30:00"),
        (BOTH, "2026-10-25T02:30:00+01:00", "2026-10-24 21:30:00"),
        (SERVER, "2026-12-31T17:00:00 +05:30", "2026-12-31 12:30:00"),
        (SERVER, "2026-12-31 17:00:00", "2026-12-31 17:00:00"),
        (SERVER, "2026-10-25 02:30:00", "2026-10-25 02:30:00"),
        (BOTH, datetime(2026, 12, 31, 17), "2026-12-31 11:00:00"),  # noqa: DTZ001 - as above
    ],
)
def test_zones_are_converted(zones: Zones, cell: object, due: str) -> None:
    """Worked by hand: Paris is 6 hours ahead of New York; without --time-zone a time is the server's own."""
    assert due_reader(None, zones)(cell) == due


@pytest.mark.parametrize(
    ("zones", "cell", "message"),
    [
        (BOTH, "2026-03-29 02:30:00", "does not exist in Europe/Paris: clocks are put forward then"),
        (SERVER, "2026-03-29 02:30:00", "does not exist in Europe/Paris: clocks are put forward then"),
        (BOTH, "2026-10-25 02:30:00", "comes twice in Europe/Paris: clocks are put back then"),
        (BOTH, "2026-11-01T05:30:00Z", "comes twice in America/New_York: clocks are put back then"),
        (BOTH, "0001-01-01 00:00:00", "is no real date"),
        (SERVER, "9999-12-31T23:59:59-12:00", "is no real date"),
    ],
)
def test_gaps_and_folds_of_clocks_are_said(zones: Zones, cell: str, message: str) -> None:
    with pytest.raises(PydanticCustomError) as caught:
        due_reader(None, zones)(cell)

    assert caught.value.message() == message


def test_a_zone_to_convert_from_needs_one_to_convert_to() -> None:
    with pytest.raises(SettingsError) as caught:
        due_reader(None, Zones(PARIS, None))

    assert caught.value.message == "--time-zone needs --server-time-zone: the zone that D3 takes due dates in"


FORM = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.ASCII)
CELLS = st.one_of(
    st.text(alphabet="0123456789-/.: TZ+WPAM", max_size=22),
    st.from_regex(r"\A\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:\d\d)?\Z"),
    st.datetimes(),
    st.dates(),
    st.none(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
)


@given(cell=CELLS, zones=st.sampled_from([None, SERVER, BOTH]), date_format=st.sampled_from([None, "dd/MM/yyyy"]))
def test_any_cell_gives_d3s_form_or_a_told_error(cell: object, zones: Zones | None, date_format: str | None) -> None:
    try:
        due = due_reader(date_format, zones)(cell)
    except PydanticCustomError:
        return
    assert FORM.fullmatch(due)
    datetime.fromisoformat(due)


@given(moment=st.datetimes(datetime(1971, 1, 1), datetime(2037, 1, 1)))  # noqa: DTZ001 - zones are added below
def test_a_conversion_keeps_the_moment(moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    try:
        due = due_reader(None, Zones(UTC, NEW_YORK))(moment)
    except PydanticCustomError:
        return
    back = datetime.fromisoformat(due).replace(tzinfo=NEW_YORK)
    assert back.astimezone(UTC) - moment.replace(tzinfo=UTC) == timedelta(0)
