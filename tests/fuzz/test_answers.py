"""Whatever a server answers: reading it never raises, and nothing unproven is called ok."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from d3async.d3.call import Call, normalize_number
from d3async.d3.response import ApiResponse, Reply, read
from d3async.policy.outcome import Verdict, judge
from tests.d3.recorded import NAMES, recorded

ITEMS = ("a-1", "b-2", "c-3")
TASK = Call("CreateTask", {}, None, "", 0, "20220125-1", job=1)
LINKS = Call("RemoveLinkedIncidents", {}, None, "", 0, "s-1", items=ITEMS)
CALLS = (TASK, LINKS, TASK.after_doubt(), LINKS.after_doubt())

GOOD = ("Successful", "Partially Successful", " successful ", "SUCCESSFUL", "true", True)
SUCCESS = {"successful", "succeed", "succeeded", "success", "true", "partially successful", "partially succeed"}
SUCCESS |= {"partially succeeded", "partial"}
WORDS = st.sampled_from([*GOOD, "Failed", "", "not linked", "Unexpected"])
NUMBERS = st.sampled_from([*ITEMS, "A-1", " b-2 ", "d-4", "", "s-1"])
LEAF = st.one_of(WORDS, NUMBERS, st.none(), st.booleans(), st.integers(-5, 5), st.floats(), st.text(max_size=6))
ENTRY_KEYS = st.sampled_from(["Incident Number", "incident number ", "Error message", "Error Message", "Reason", "x"])
ENTRY = st.one_of(st.dictionaries(ENTRY_KEYS, LEAF, max_size=3), LEAF)
SHORT = st.text(max_size=5)
ANY = st.recursive(LEAF, lambda one: st.one_of(st.lists(one, max_size=3), st.dictionaries(SHORT, one, max_size=3)))
ERRORS = st.one_of(st.lists(ENTRY, max_size=4), ENTRY, ANY)
LEFT = st.one_of(st.dictionaries(SHORT, st.lists(NUMBERS, max_size=4), max_size=2), st.lists(LEAF, max_size=3), ANY)


@st.composite
def content(draw: st.DrawFn) -> Any:
    """What stands in `returnData`."""
    if draw(st.integers(0, 3)) == 0:
        return draw(st.one_of(WORDS, ANY))
    told: dict[str, Any] = {draw(st.sampled_from(["Status", "status", " STATUS"])): draw(WORDS)}
    for name, value in (("ErrorData", ERRORS), ("errordata ", ERRORS), ("Data", LEFT), ("Status", WORDS)):
        if draw(st.booleans()):
            told[name] = draw(value)
    wrapping = draw(st.integers(0, 5))
    return [told] if wrapping == 0 else json.dumps(told) if wrapping == 1 else told


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """An answer of D3, more or less."""
    told: dict[str, Any] = {draw(st.sampled_from(["returnData", "ReturnData"])): draw(content())}
    for name, value in (("error", LEAF), ("Error", LEAF), ("rawData", ANY)):
        if draw(st.integers(0, 2)) == 0:
            told[name] = draw(value)
    return json.dumps(told).encode()


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """Some good bytes with a few of them cut, doubled or changed."""
    body = bytearray(draw(st.one_of(bodies(), st.sampled_from(NAMES).map(lambda name: recorded(name).body))))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(len(body) - 1, 0)))
        end = min(at + draw(st.integers(0, 20)), len(body))
        body[at:end] = draw(st.one_of(st.binary(max_size=5), st.just(bytes(body[at:end]) * 2)))
    return bytes(body)


BODIES = st.one_of(bodies(), bodies(), spoilt(), st.binary(max_size=60))
STATUSES = st.one_of(
    st.just(200), st.just(200), st.just(200), st.sampled_from([201, 204, 302, 400, 401, 429, 500, 503])
)


def under(key: str, found: Any) -> Iterator[Any]:
    """Every value under *key*, in whatever letters, at any depth, also in JSON that stands in a text."""
    if isinstance(found, str) and found.lstrip()[:1] in {"{", "["}:
        try:
            yield from under(key, json.loads(found))
        except ValueError:
            return
    elif isinstance(found, dict):
        for name, value in found.items():
            if name.strip().casefold() == key:
                yield value
            yield from under(key, value)
    elif isinstance(found, list):
        for value in found:
            yield from under(key, value)


def is_proven(body: Any, item: str | None) -> bool:
    """By hand: an object in which D3 says so in words, and nothing in it names *item* as trouble or as left."""
    if not isinstance(body, dict):
        return False
    said = {" ".join(str(word).split()).casefold() for word in (*under("status", body), *under("returndata", body))}
    if not said & SUCCESS:
        return False
    if item is None:
        return not any(body[key] for key in body if key.strip().casefold() == "error")
    trouble = [number for errors in under("errordata", body) for number in under("incident number", errors)]
    left = [
        number for data in under("data", body) if isinstance(data, dict) and len(data) == 1 for number in data.values()
    ]
    numbers = {normalize_number(str(number)) for number in trouble}
    numbers |= {normalize_number(str(number)) for numbers in left if isinstance(numbers, list) for number in numbers}
    return normalize_number(item) not in numbers


def check(status: int, body: bytes) -> list[Verdict]:
    """Read *body* for every call, and hold the outcome against what is proven."""
    answer = read(ApiResponse(status, {"content-type": "application/json"}, body))
    verdicts = [judge(call, answer) for call in CALLS]
    for call, verdict in zip(CALLS, verdicts, strict=True):
        assert [item.item for item in verdict.items] == list(call.items)
        text = " ".join([verdict.message, verdict.code, *verdict.anomalies, *(item.message for item in verdict.items)])
        text.encode()
        oks: list[str | None] = [item.item for item in verdict.items if item.outcome == "ok"]
        if not call.items and verdict.outcome == "ok":
            oks.append(None)
        for item in oks:
            removed_before = item is not None and call.tried
            assert status == 200
            assert isinstance(answer, Reply)
            assert removed_before or is_proven(json.loads(body.decode("utf-8-sig")), item), (item, body)
    return verdicts


@settings(deadline=None, max_examples=400)
@given(status=STATUSES, body=BODIES)
def test_an_answer_is_read_without_a_crash_and_only_proof_is_ok(status: int, body: bytes) -> None:
    check(status, body)


@pytest.mark.slow
def test_ten_minutes_of_answers(fuzz_seconds: float) -> None:
    end = time.monotonic() + fuzz_seconds

    @settings(
        deadline=None, max_examples=5_000, database=None, derandomize=False, suppress_health_check=list(HealthCheck)
    )
    @given(status=STATUSES, body=BODIES)
    def some(status: int, body: bytes) -> None:
        check(status, body)

    while time.monotonic() < end:
        some()


LISTED = b'{"returnData":[{"Status":"Successful","Data":{"":[true,"a-1"]}}]}'
HALF = b'{"returnData":{"Status":"Failed","ErrorData":[{"Incident Number":"a-1","Error message":"\\ud800"}]}}'
TWICE = json.dumps({"returnData": json.dumps(json.dumps({"Status": "Successful"}))}).encode()
FOUND = {
    "half a character in a message": (HALF, "failed"),
    "a number too long to read": (b'{"returnData":' + b"9" * 5000 + b"}", "unknown"),
    "infinity for a number": (b'{"returnData":Infinity}', "unknown"),
    "an exponent beyond every float": (b'{"returnData":{"Status":1e999}}', "unknown"),
    "a byte order mark alone": (b"\xef\xbb\xbf", "unknown"),
    "JSON in a text in a text": (TWICE, "unknown"),
    "an incident listed as left beside something that is none": (LISTED, "partial"),
    "a list of lists": (b'{"returnData":[[{"Status":"Successful"}]]}', "unknown"),
}


@pytest.mark.parametrize(("body", "outcome"), FOUND.values(), ids=FOUND)
def test_cases_that_were_found(body: bytes, outcome: str) -> None:
    of_a_task, of_links, *_ = check(200, body)

    assert outcome in {of_a_task.outcome, of_links.outcome}


@pytest.mark.parametrize("depth", [1_000, 10_000, 100_000])
def test_answers_nested_deep_are_unreadable_not_a_crash(depth: int) -> None:
    for start, end in (("[", "]"), ('{"returnData":', "}")):
        body = b'{"error":"","returnData":' + (start * depth + "1" + end * depth).encode() + b"}"
        assert {verdict.outcome for verdict in check(200, body)} == {"unknown"}
