"""An answer proves what it says in so many words, and nothing more."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3async.d3.call import envelope
from d3async.d3.response import (
    _DISTINCT,
    AmbiguousAnswer,
    ApiResponse,
    ItemError,
    Refused,
    Reply,
    Throttled,
    Unauthorized,
    foreign_page,
    read,
    returned,
    same_key,
)
from tests.d3.recorded import NAMES, recorded

NOT_LINKED = "The source incident is not linked to this incident."
KINDS = {
    "ok": Reply, "partial": Reply, "still": Reply, "wrong": Reply, "create": Reply, "remove": Reply,
    "doubt": AmbiguousAnswer, "refused": Refused, "throttled": Throttled, "unauthorized": Unauthorized,
}  # fmt: skip


def answered(body: Any, status: int = 200) -> ApiResponse:
    return ApiResponse(status, {"content-type": "application/json"}, json.dumps(body).encode())


def test_the_envelope_is_the_one_on_d3s_create_task_page() -> None:
    params = {"Task Name": "Sample Task ", "Incident Number": "20220125-1"}

    request = envelope("CreateTask", params, username="Admin", site="Security Operations")

    assert request.command == "CreateTask"
    assert json.loads(request.body) == {
        "Username": "Admin",
        "Site": "Security Operations",
        "CommandParams": {"Task Name": "Sample Task ", "Incident Number": "20220125-1"},
    }


def test_text_beyond_ascii_travels_as_utf_8() -> None:
    assert "Überprüfung 调查".encode() in envelope("X", {"n": "Überprüfung 调查"}, username="u", site="s").body


@pytest.mark.parametrize("name", [name for name in NAMES if name.split("_", 1)[0] in KINDS])
def test_every_recorded_answer_is_of_the_kind_its_name_says(name: str) -> None:
    assert type(read(recorded(name))) is KINDS[name.split("_", 1)[0]]


@pytest.mark.parametrize(
    ("name", "status", "errors", "remaining"),
    [
        ("create_task_ok", "ok", (), None),
        ("remove_links_partial", "partial", (ItemError("20210127-198", NOT_LINKED),), ("20231025-131",)),
        ("ok_succeed", "ok", (), None),
        ("ok_true", "ok", (), None),
        ("ok_bom", "ok", (), None),
        ("ok_object", "ok", (), ("20231025-131",)),
        ("ok_object_in_text", "ok", (), ("20231025-131",)),
        ("ok_object_in_list", "ok", (), ("20231025-131",)),
        ("ok_none_left", "ok", (), ()),
        ("ok_without_error_data", "ok", (), ("20231025-131",)),
        ("ok_null_error_data", "ok", (), ("20231025-131",)),
        ("partial_odd_case", "partial", (ItemError("20210127-198", NOT_LINKED),), ("20231025-131",)),
        ("partial_other_data_key", "partial", (ItemError("20210127-198", NOT_LINKED),), ("20231025-131",)),
        ("partial_number_not_text", "partial", (ItemError("198", NOT_LINKED),), ("20231025-131",)),
        ("partial_error_data_in_text", "partial", (ItemError("20210127-198", NOT_LINKED),), ("20231025-131",)),
        ("partial_one_error_object", "partial", (ItemError("20210127-198", NOT_LINKED),), ("20231025-131",)),
        ("wrong_status_ok", "ok", (ItemError("20210127-198", NOT_LINKED),), ("20231025-131",)),
        ("still_linked", "ok", (), ("20210127-197",)),
    ],
)
def test_a_reply_says_status_errors_and_the_links_that_remain(
    name: str, status: str, errors: tuple[ItemError, ...], remaining: tuple[str, ...] | None
) -> None:
    reply = read(recorded(name))

    assert isinstance(reply, Reply)
    assert (reply.status, reply.errors, reply.remaining) == (status, errors, remaining)


@pytest.mark.parametrize(
    ("data", "remaining"),
    [
        ({"Left": ["a-1", None]}, {"a-1"}),
        ({"Left": [True, 7]}, {"7"}),
        ({"Left": ["a-1"], "And": ["b-2"]}, {"a-1", "b-2"}),
        ({"Left": {"of it": [["a-1"], {"x": "b-2"}]}}, {"a-1", "b-2"}),
        ({"Left": "a-1"}, {"a-1"}),
        ("a-1", {"a-1"}),
        ({"Left": None}, None),
        ({"Left": " "}, None),
        (True, None),
    ],
)
def test_whatever_data_in_another_form_names_is_not_called_gone(data: object, remaining: set[str] | None) -> None:
    reply = read(answered({"error": "", "returnData": {"Status": "Successful", "Data": data}}))

    assert isinstance(reply, Reply)
    assert (reply.remaining and set(reply.remaining)) == remaining
    assert reply.anomalies[0].startswith("Data cannot be read: ")


def test_data_in_a_text_is_read() -> None:
    reply = read(answered({"error": "", "returnData": {"Status": "Successful", "Data": '{"Left": ["a-1"]}'}}))

    assert isinstance(reply, Reply)
    assert (reply.remaining, reply.anomalies) == (("a-1",), ())


def test_an_error_entry_without_an_incident_is_told_and_marks_the_reply() -> None:
    reply = read(recorded("partial_one_nameless"))

    assert isinstance(reply, Reply)
    assert reply.nameless
    assert reply.anomalies == ('ErrorData names no incident: {"Error message": "Unexpected Error."}',)


def test_an_error_text_beside_item_errors_is_told_and_not_lost() -> None:
    reply = read(recorded("failed_all_items_with_error"))

    assert isinstance(reply, Reply)
    assert [error.incident for error in reply.errors] == ["20210127-198", "20210127-197"]
    assert reply.anomalies == ("No incident was unlinked.",)


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("failed_200", "command_error", "File ID: 271 Cannot read that as a ZipFile"),
        ("failed_word", "command_error", 'D3 answered "Failed" without a reason.'),
        ("failed_object", "command_error", 'D3 answered "Failed" without a reason.'),
        ("error_400", "http_400", "The body of the request must be a valid JSON object"),
        ("refused_409", "http_409", "Conflict"),
        ("refused_404", "http_404", "D3 answered HTTP 404. It says ‘Not Found’."),
    ],
)
def test_a_refusal_carries_d3s_own_words_where_there_are_any(name: str, code: str, message: str) -> None:
    refused = read(recorded(name))

    assert isinstance(refused, Refused)
    assert (refused.code, refused.message) == (code, message)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("error_500", "http_500"),
        ("doubt_408", "http_408"),
        ("doubt_202", "http_202"),
        ("doubt_302", "http_302"),
        ("doubt_html_200", "bad_response"),
        ("doubt_half_200", "bad_response"),
        ("doubt_twice_return", "bad_response"),
        ("doubt_array", "bad_response"),
        ("doubt_unknown_word", "bad_response"),
        ("doubt_partial_without_names", "bad_response"),
        ("doubt_empty_fields", "empty_answer"),
        ("doubt_null_fields", "empty_answer"),
        ("doubt_no_fields", "empty_answer"),
        ("doubt_ok_and_error", "contradiction"),
        ("doubt_failed_beside_links", "contradiction"),
    ],
)
def test_what_proves_nothing_says_in_a_word_why(name: str, code: str) -> None:
    doubtful = read(recorded(name))

    assert isinstance(doubtful, AmbiguousAnswer)
    assert doubtful.code == code
    assert doubtful.message


def test_a_429_carries_the_wait_that_its_headers_asked_for() -> None:
    assert read(recorded("error_429"), retry_after=2.5) == Throttled(
        "The request exceeds rate limits or is otherwise blocked by rate limiting policies.", 2.5
    )


def test_a_401_says_what_d3_said() -> None:
    assert read(recorded("error_401")) == Unauthorized("Invalid authentication key.")


@pytest.mark.parametrize("depth", [100, 900, 950, 980, 990, 1_000, 100_000])
@pytest.mark.parametrize("where", ["returnData", "error"])
def test_nesting_of_any_depth_is_doubt_or_refusal_and_never_a_traceback(depth: int, where: str) -> None:
    body = f'{{"{where}": {"[" * depth}{"]" * depth}}}'.encode()

    assert isinstance(read(ApiResponse(200, {}, body)), AmbiguousAnswer | Refused)


def test_what_utf_8_cannot_hold_is_replaced_so_that_it_can_be_stored() -> None:
    body = b'{"error":"half a pair \\ud800 and a nul \\u0000","returnData":"Failed"}'

    refused = read(ApiResponse(200, {}, body))

    assert isinstance(refused, Refused)
    assert refused.message.encode() == b"half a pair ? and a nul \x00"


@pytest.mark.parametrize("body", [b"\xff\xfe", b'{"error":"\xff"}', b"{" * 50_000, b"1" * 5_000, b"NaN"])
def test_bytes_that_are_no_answer_are_doubt(body: bytes) -> None:
    assert isinstance(read(ApiResponse(200, {}, body)), AmbiguousAnswer)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["Status", "Data", "ErrorData", "x"]), inner),
    max_leaves=12,
)


@given(status=st.integers(100, 999), error=JSON, content=JSON)
def test_no_json_at_all_makes_reading_fail_and_only_a_200_is_a_reply(status: int, error: Any, content: Any) -> None:
    answer = read(answered({"error": error, "returnData": content}, status))

    assert not isinstance(answer, Reply) or status == 200


@given(st.binary(max_size=200), st.sampled_from([200, 201, 302, 400, 401, 408, 429, 500]))
def test_no_bytes_make_reading_fail(body: bytes, status: int) -> None:
    assert not isinstance(read(ApiResponse(status, {}, body)), Reply)


def test_the_answer_of_any_other_command_comes_back_as_it_is() -> None:
    assert returned(answered({"Status": 1, "status": 2})) == {"Status": 1, "status": 2}
    assert returned(ApiResponse(200, {}, b"not JSON \xff")) == "not JSON �"


def test_keys_that_are_taken_for_different_ones_at_sight_are_different() -> None:
    assert len(set(map(same_key, _DISTINCT))) == len(_DISTINCT)


@pytest.mark.parametrize("second", ["returndata", "ReturnData ", "RETURNDATA"])
def test_a_key_that_decides_may_not_stand_twice_however_it_is_spelt(second: str) -> None:
    body = f'{{"error":"","returnData":"Successful","{second}":"Failed"}}'.encode()

    assert isinstance(read(ApiResponse(200, {}, body)), AmbiguousAnswer)


@pytest.mark.parametrize(
    ("status", "headers", "body", "page"),
    [
        (200, {}, b'{"error": "", "returnData": "Successful"}', ""),
        (500, {}, b' \n{"Error": "x"}', ""),
        (400, {}, b'\xef\xbb\xbf{"Error": "x"}', ""),
        (401, {}, b"<title>Unauthorized</title>", ""),
        (429, {}, b"<title>Slow down</title>", ""),
        (413, {}, b"<title>Request Entity Too Large</title>", ""),
        (200, {}, b"<html><TITLE lang=en>\n Sign &amp; In </TITLE>", "a page titled ‘Sign & In’ answers (HTTP 200)"),
        (404, {}, b"<script>var a = 1</script><h1>Not <b>Found</b></h1>", "‘Not Found’ answers (HTTP 404)"),
        (502, {}, b"<html></html>", "a page without words answers (HTTP 502)"),
        (204, {}, b"", "HTTP 204 with an empty answer"),
        (302, {"location": "https://login.example/saml?token=secret"}, b"{}", "HTTP 302 sends to https://login.example/saml"),
        (304, {}, b"", "HTTP 304 sends to nowhere"),
        (503, {}, ("é" * 200).encode(), f"‘{'é' * 79}…’ answers (HTTP 503)"),
    ],
)  # fmt: skip
def test_an_answer_that_d3_did_not_write_is_named(status: int, headers: dict[str, str], body: bytes, page: str) -> None:
    assert foreign_page(ApiResponse(status, headers, body)) == page
