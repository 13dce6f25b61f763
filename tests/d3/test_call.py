"""A JSON object kept as text says what it would say if it were read."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from d3async.d3.call import JsonObject

ENCODED = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
NAMES = st.sampled_from(["Due Date", "Task Name", 'say "Due Date', "a\\", ""]) | st.text(max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12) | st.sampled_from(['","Due Date":"x', '\\"', "{"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(NAMES, VALUES, max_size=6), NAMES, st.booleans())
@example({'say "Due Date': "no", "Due Date": "yes"}, "Due Date", False)
@example({"a": {"Due Date": "inner"}, "Due Date": "outer"}, "Due Date", True)
@example({"a": 'x","Due Date":"y'}, "Due Date", False)
def test_whatever_is_asked_for_the_answer_is_that_of_the_whole_object(
    fields: dict[str, Any], name: str, compact: bool
) -> None:
    found = JsonObject(ENCODED.encode(fields) if compact else json.dumps(fields))

    assert found.get(name, "nothing") == fields.get(name, "nothing")
    assert [found[key] for key in fields] == list(fields.values())
    assert dict(found) == fields


@pytest.mark.parametrize("name", ["Due Date", "Task Name"])
def test_a_plain_text_is_found_without_reading_the_rest(name: str) -> None:
    found = JsonObject('{"Task Name":"Call","Due Date":"2099-01-04 11:00:00","Rest":[1,2]}')

    assert found[name] in {"Call", "2099-01-04 11:00:00"}
    assert found._read is None
