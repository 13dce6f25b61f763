"""A stated wait is read in every form servers use, and nothing else is taken for one."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3async.policy.retry import retry_after

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT
SERVER = {"date": "Wed, 21 Oct 2015 07:28:00 GMT"}  # 1_445_412_480


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("30", 30.0),
        (" 30 ", 30.0),
        ("1.5", 1.5),
        (".25", 0.25),
        ("007", 7.0),
        ("30,120", 120.0),
        ("120, 30", 120.0),
        ("soon, 4", 4.0),
        ("-5", 0.0),
        ("86400000", 86_400_000.0),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0),
        ("Tuesday, 14-Nov-23 22:14:20 GMT", 60.0),
        ("Tue Nov 14 22:14:20 2023", 60.0),
        ("Tue, 14 Nov 2023 22:14:20 GMT, Tue, 14 Nov 2023 22:15:20 GMT", 120.0),
        ("Tue, 14 Nov 2023 22:14:20 GMT, 90", 90.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_decimals_dates_or_a_list_of_them(text: str, seconds: float) -> None:
    assert retry_after({"retry-after": text}, now=NOW) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *["", " ", ",", "soon", "30s", "1e3", "0x10", "1_000", "٣", "--5", "PT30S", "9" * 400],
        *["inf", "-inf", "nan", "NaN", "Fri, 31 Dec 99999 23:59:59 GMT", "Wed, 99 Foo 2015 07:28:00 GMT"],
    ],
)
def test_garbage_is_no_wait(text: str) -> None:
    assert retry_after({"retry-after": text}, now=NOW) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "Wed, 21 Oct 2015 07:28:45 GMT"}, 45.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:27:00 GMT"}, 0.0),
        ({"x-ratelimit-reset": "1445412490"}, 10.0),
        ({"x-ratelimit-reset": "1445412490000"}, 10.0),
    ],
)
def test_a_moment_is_measured_against_the_servers_own_date(headers: dict[str, str], seconds: float) -> None:
    assert retry_after(SERVER | headers, now=NOW) == seconds


def test_a_broken_date_header_leaves_our_own_clock() -> None:
    headers = {"date": "yesterday", "retry-after": "Tue, 14 Nov 2023 22:13:50 GMT"}

    assert retry_after(headers, now=NOW) == 30.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "1500"}, 1.5),
        ({"x-ms-retry-after-ms": "250"}, 0.25),
        ({"ratelimit": '"default";r=0;t=12'}, 12.0),
        ({"ratelimit": '"minute";r=0;t=12, "day";r=9000;t=40000'}, 12.0),
        ({"ratelimit": '"minute";r=0;t=12, "day";r=0;t=40000'}, 40_000.0),
        ({"ratelimit": '"a;t=99";r=0;t=12'}, 12.0),
        ({"ratelimit": '"default";t=5;r=0'}, 5.0),
        ({"ratelimit": "limit=50, remaining=0, reset=7"}, 7.0),
        ({"ratelimit-reset": "7"}, 7.0),
        ({"ratelimit-reset": "1000000000"}, 1e9),
        ({"x-ratelimit-reset": "1700000012"}, 12.0),
        ({"x-ratelimit-reset": "1700000012.5"}, 12.5),
        ({"x-ratelimit-reset": "1699999999"}, 0.0),
        ({"x-ratelimit-reset": "1700000012000"}, 12.0),
    ],
)
def test_other_headers_state_a_wait_too(headers: dict[str, str], seconds: float) -> None:
    assert retry_after(headers, now=NOW) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"ratelimit": '"default";r=0'},
        {"ratelimit": "garbage"},
        {"ratelimit": '"default";tt=4'},
        {"ratelimit-reset": "-"},
        {"x-ratelimit-remaining": "0"},
        {"retry-after-ms": "Wed, 21 Oct 2015 07:28:45 GMT"},
    ],
)
def test_a_header_without_a_readable_time_states_none(headers: dict[str, str]) -> None:
    assert retry_after(headers, now=NOW) is None


def test_the_headers_have_an_order_and_a_broken_one_is_passed_over() -> None:
    lines = [
        ("retry-after", "1"),
        ("retry-after-ms", "2000"),
        ("x-ms-retry-after-ms", "3000"),
        ("ratelimit", '"default";r=0;t=4'),
        ("ratelimit-reset", "5"),
        ("x-ratelimit-reset", "6"),
    ]

    for place in range(len(lines)):
        headers = {name: "broken" for name, _ in lines[:place]} | dict(lines[place:])
        assert retry_after(headers, now=NOW) == place + 1


@given(
    st.dictionaries(
        st.sampled_from(["retry-after", "retry-after-ms", "ratelimit", "x-ratelimit-reset", "date"]),
        st.text(max_size=40),
    ),
    st.floats(0, 4e9),
)
def test_whatever_a_header_holds_the_answer_is_none_or_finite_and_not_negative(
    headers: dict[str, str], now: float
) -> None:
    wait = retry_after(headers, now=now)

    assert wait is None or (wait >= 0 and math.isfinite(wait))
