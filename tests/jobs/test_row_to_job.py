"""Rows become jobs, or everything that is wrong with them at once."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3async.d3.commands import Reading, find
from d3async.errors import JobFileError
from d3async.jobs.dates import due_reader
from d3async.jobs.job import Invalid, Job, Problem, Row
from d3async.jobs.row_to_job import RowOptions, RowReader

CREATE, REMOVE = find("CreateTask"), find("RemoveLinkedIncidents")
HEADER = ("incident", "name", "type", "description", "assignee", "due", "required")
CELLS = ("2026-1", "Call", "", " as given ", "ann", "2027-01-02 03:04:05", "y")
LINKS = ("source", "linked")
DATE_CELL = "is a date to Excel: make the column text and type it again"
NOW = "2026-06-15 12:00:00"


def options(**changed: Any) -> RowOptions:
    return RowOptions(reading=Reading(due_reader()), **{"now": NOW, **changed})


def reader(header: tuple[str, ...] = HEADER, **changed: Any) -> RowReader:
    return RowReader(options(**changed), header)


def one(header: tuple[str, ...], *cells: Any, **changed: Any) -> Job | Invalid:
    return reader(header, **changed).read(Row(1, 2, header, cells, "raw"))


def from_json(found: dict[str, Any], **changed: Any) -> Job | Invalid:
    return RowReader(options(**changed)).read(Row(1, 2, tuple(found), tuple(found.values()), "raw"))


def but(**changed: Any) -> tuple[Any, ...]:
    return tuple(changed.get(name, cell) for name, cell in zip(HEADER, CELLS, strict=True))


def job(entry: Job | Invalid) -> Job:
    assert isinstance(entry, Job), entry
    return entry


def problems(entry: Job | Invalid) -> list[tuple[str, str, str]]:
    assert isinstance(entry, Invalid), entry
    return [(problem.code, problem.value, problem.message) for problem in entry.problems]


def warned(entry: Job | Invalid) -> list[tuple[str, str]]:
    return [(problem.code, problem.value) for problem in job(entry).warnings]


def test_a_row_is_its_command() -> None:
    found = job(one(HEADER, *CELLS))

    assert found.asked.command.params() == {
        "Incident Number": "2026-1",
        "Task Name": "Call",
        "Task Type": "Default",
        "Task Description": " as given ",
        "Assignee": "ann",
        "Due Date": "2027-01-02 03:04:05",
        "Required": "Yes",
    }
    assert (found.row, found.line, found.raw, found.username, found.site, found.key) == (1, 2, "raw", None, "", None)
    assert found.warnings == ()
    assert found.selected


@pytest.mark.parametrize(
    ("linked", "items"),
    [
        ("2026-2", ("2026-2",)),
        ("2026-2;2026-3", ("2026-2", "2026-3")),
        (" 2026-2 , 2026-3\n2026-4 ", ("2026-2", "2026-3", "2026-4")),
        ("2026-2;;2026-2", ("2026-2",)),
        (["2026-2", 20263], ("2026-2", "20263")),
        (20262, ("20262",)),
    ],
)
def test_linked_is_one_number_or_several(linked: Any, items: tuple[str, ...]) -> None:
    assert job(one(LINKS, "2026-1", linked)).asked.command.params()["Linked Incident Numbers to be Removed"] == items


def test_everything_wrong_with_a_row_is_told_at_once() -> None:
    header = ("Incident Number", "Task Name", "Task Description", "Assignee", "Due Date", "Required", "key")
    entry = one(header, " ", "", " ", "", "24/03/2027", "maybe", "", key_column="key", need_site=True)

    assert isinstance(entry, Invalid)
    assert entry.problems == (
        Problem("incident", "Incident Number", " ", "is empty"),
        Problem("name", "Task Name", "", "is empty"),
        Problem("description", "Task Description", " ", "is empty"),
        Problem("assignee", "Assignee", "", "is empty"),
        Problem("due", "Due Date", "24/03/2027", "day or month first?", "give --date-format dd/MM/yyyy"),
        Problem("required", "Required", "maybe", "is neither Yes nor No", "write Yes or No"),
        Problem("id", "key", "", "is empty"),
        Problem("site", "Site", "", "is empty", "give D3_SITE, a Site column, or --set 'Site=…'"),
    )


def test_incident_numbers_are_text() -> None:
    assert job(one(HEADER, *but(incident="0012"))).asked.command.params()["Incident Number"] == "0012"
    assert job(one(HEADER, *but(incident=12))).asked.command.params()["Incident Number"] == "12"


@pytest.mark.parametrize(
    ("changed", "code", "value", "message"),
    [
        ({"name": 1.5}, "name", "1.5", "is not text: write it in quotes"),
        ({"name": True}, "name", "true", "is not text: write it in quotes"),
        ({"name": ["x"]}, "name", '["x"]', "is not text: write it in quotes"),
        ({"name": {"x": 1}}, "name", '{"x": 1}', "is not text: write it in quotes"),
        ({"name": None}, "name", "", "is empty"),
        ({"incident": date(2026, 1, 25)}, "incident", "2026-01-25", DATE_CELL),
        ({"due": 46112}, "due", "46112", "is not a date like 2026-12-31 17:00:00"),
        ({"due": ""}, "due", "", "is empty"),
        ({"incident": "2026\u200b-1"}, "incident", "2026\u200b-1", "has a character that can't be seen (U+200B)"),
        ({"incident": "2026\x07-1"}, "incident", "2026\x07-1", "has a character that can't be seen (U+0007)"),
        ({"name": "x" * 300, "assignee": ""}, "assignee", "", "is empty"),
    ],
)
def test_a_cell_of_the_wrong_kind_is_a_problem(changed: dict[str, Any], code: str, value: str, message: str) -> None:
    assert problems(one(HEADER, *but(**changed))) == [(code, value, message)]


def test_a_character_that_cannot_be_seen_is_found_in_items_too() -> None:
    assert problems(one(LINKS, "2026-1", "2026-2;2026\u202e-3")) == [
        ("linked", "2026\u202e-3", "has a character that can't be seen (U+202E)")
    ]


def test_long_values_are_cut_where_they_are_told() -> None:
    [(_, value, _)] = problems(one(HEADER, *but(due="x" * 500)))

    assert len(value) == 201


@pytest.mark.parametrize(
    ("changed", "warnings"),
    [
        ({}, []),
        ({"due": "2026-06-15 11:59:59"}, [("past", "2026-06-15 11:59:59")]),
        ({"due": "2026-06-15 12:00:00"}, []),
        ({"due": "2027-01-02"}, [("midnight", "2027-01-02")]),
        ({"due": "2027-01-02 00:00"}, []),
        ({"name": "x" * 100}, []),
        ({"name": "x" * 101}, [("long", "x" * 40)]),
        ({"incident": "20260125-77"}, []),
        ({"incident": "TEST-INCIDENT-73"}, []),
        ({"incident": "2.02E+07"}, [("odd_number", "2.02E+07")]),
        ({"incident": "2026-01-25"}, [("odd_number", "2026-01-25")]),
        ({"incident": "20220125.0"}, [("odd_number", "20220125.0")]),
        ({"incident": "2026 1"}, [("odd_number", "2026 1")]),
        ({"incident": "2026\u00a01"}, [("odd_number", "2026\u00a01")]),
        ({"incident": "none"}, [("odd_number", "none")]),
    ],
)
def test_what_is_odd_is_said_and_sent(changed: dict[str, Any], warnings: list[tuple[str, str]]) -> None:
    assert warned(one(HEADER, *but(**changed))) == warnings


def test_a_source_among_its_own_links_is_odd() -> None:
    assert warned(one(LINKS, "Inc-1", "inc-1;2026-2")) == [("own_link", "inc-1")]


def test_without_a_clock_nothing_is_past() -> None:
    assert warned(one(HEADER, *but(due="1999-01-01 10:00:00"), now="")) == []


@pytest.mark.parametrize("cell", ["", "  ", None])
def test_set_fills_cells_that_are_empty_and_columns_that_are_missing(cell: object) -> None:
    filled = job(one(HEADER, *but(assignee=cell), defaults={"Assignee": "bob", "required": "Yes"}))
    header = tuple(name for name in HEADER if name != "assignee")
    missing = job(
        one(header, *(c for n, c in zip(HEADER, CELLS, strict=True) if n != "assignee"), defaults={"assignee": "bob"})
    )

    assert filled.asked.command.params()["Assignee"] == missing.asked.command.params()["Assignee"] == "bob"


def test_a_cell_outranks_set() -> None:
    assert job(one(HEADER, *CELLS, defaults={"assignee": "bob"})).asked.command.params()["Assignee"] == "ann"


@pytest.mark.parametrize("cell", ["", " ", "\t", None])
def test_an_empty_cell_of_an_optional_column_is_its_default(cell: object) -> None:
    found = job(one(HEADER, *but(type=cell, required=cell)))

    assert (found.asked.command.params()["Task Type"], found.asked.command.params()["Required"]) == ("Default", "No")


def test_site_and_user_of_the_row_win() -> None:
    header = (*LINKS, "Site", "user name")

    own = job(one(header, "1-1", "1-2", " Paris ", "ann", site="Rome"))
    none = job(one(header, "1-1", "1-2", " ", "", site="Rome"))
    filled = job(one(header, "1-1", "1-2", "", "", site="Rome", defaults={"Site": "Oslo", "Username": "bob"}))

    assert (own.site, own.username) == ("Paris", "ann")
    assert (none.site, none.username) == ("Rome", None)
    assert (filled.site, filled.username) == ("Oslo", "bob")
    assert problems(one(header, "1-1", "1-2", {"a": 1}, 1.5)) == [
        ("site", '{"a": 1}', "is not text: write it in quotes"),
        ("username", "1.5", "is not text: write it in quotes"),
    ]


def test_the_id_column_is_the_key_of_jobs_and_of_invalid_rows() -> None:
    header = (*LINKS, "Key")

    assert job(one(header, "1-1", "1-2", " k7 ", key_column="key")).key == "k7"
    assert job(one(header, "1-1", "1-2", 7, key_column="key")).key == "7"
    wrong = one(header, "", "1-2", "k8", key_column="key")
    assert isinstance(wrong, Invalid)
    assert wrong.key == "k8"
    assert problems(one(header, "1-1", "1-2", " ", key_column="key")) == [("id", "", "is empty")]


def test_where_and_limit_choose_a_pilot() -> None:
    """Rows that are not chosen are jobs all the same: they stay unsent."""
    header = (*LINKS, "Team")
    found = reader(header, where={"team": "red"}, limit=2)

    chosen = [
        job(found.read(Row(1, 2, header, ("1-1", "1-2", team), ""))).selected
        for team in ("red", "blue", " red ", "red")
    ]

    assert chosen == [True, False, True, False]


def test_where_takes_our_names_of_columns_too() -> None:
    header = ("Source Incident Number", "linked")

    assert job(one(header, "1-1", "1-2", where={"source": "1-1"})).selected
    assert not job(one(header, "1-1", "1-2", where={"source": "1-2"})).selected


def test_rows_of_one_file_may_ask_for_different_commands() -> None:
    header = ("command", *HEADER, *LINKS)
    found = reader(header)

    create = job(found.read(Row(1, 2, header, ("create-task", *CELLS, "", ""), "")))
    remove = job(found.read(Row(2, 3, header, ("RemoveLinkedIncidents", *[""] * 7, "1-1", "1-2"), "")))

    assert found.command is None
    assert isinstance(create.asked.command, CREATE or ())
    assert isinstance(remove.asked.command, REMOVE or ())


@pytest.mark.parametrize(
    ("cell", "command", "message"),
    [
        ("", None, "is empty"),
        ("CloseIncident", None, "is no known command"),
        (["x"], None, "is no known command"),
        ("CreateTask", REMOVE, "is not the RemoveLinkedIncidents of --command"),
    ],
)
def test_a_command_that_cannot_be_meant_is_a_problem(cell: object, command: Any, message: str) -> None:
    [(code, _, told)] = problems(one(("command", *LINKS), cell, "1-1", "1-2", command=command))

    assert (code, told) == ("command", message)


def test_an_empty_command_cell_is_the_command_given() -> None:
    for said in ({"command": REMOVE}, {"defaults": {"command": "remove-linked-incidents"}}):
        assert isinstance(job(one(("command", *LINKS), "", "1-1", "1-2", **said)).asked.command, REMOVE or ())


def test_a_column_missing_for_one_command_is_a_problem_of_its_rows() -> None:
    assert problems(one(("command", *LINKS), "CreateTask", "", ""))[0] == (
        "incident", "", '(D3: "Incident Number") is missing'
    )  # fmt: skip


def test_lines_of_json_choose_their_command_by_their_keys() -> None:
    assert isinstance(job(from_json({"source": "1-1", "linked": ["1-2"]})).asked.command, REMOVE or ())
    assert isinstance(job(from_json(dict(zip(HEADER, CELLS, strict=True)))).asked.command, CREATE or ())
    assert problems(from_json({"linked": ["1-2"]})) == [("source", "", '(D3: "Source Incident Number") is missing')]
    assert problems(from_json({"source": "1-1", "Linkd": "1-2"}))[0] == (
        "linked", "", 'is no known column: did you mean "linked"?'
    )  # fmt: skip
    assert problems(from_json({}))[0][0] == "command"


@pytest.mark.parametrize(
    ("header", "changed", "message"),
    [
        (HEADER, {"defaults": {"Asignee": "x"}}, 'no column is called "Asignee": did you mean "assignee"?'),
        (HEADER, {"renames": {"name": "tsk name"}}, 'no column is called "tsk name": did you mean "name"?'),
        (LINKS, {"renames": {"Origin": "source"}}, 'the header has no column "Origin"; it has: source, linked'),
        (LINKS, {"where": {"Team": "red"}}, 'the header has no column "Team"; it has: source, linked'),
        (
            ("source", "linked", "_code"),
            {},
            (
                "the header cannot be used (it has: source, linked, _code):\n"
                '  "_code" is a column of d3async\'s own results; this looks like a results.csv: '
                "take the failed.csv beside it, or remove the columns that begin with _"
            ),
        ),
        (
            ("Incident", "Task Name", "Asignee", "Deadline", "description", "Due", "due date"),
            {},
            (
                "the header cannot be used"
                " (it has: Incident, Task Name, Asignee, Deadline, description, Due, due date):\n"
                '  "due date" means the same as "Due"; remove one, or leave it out with --map \'due date=\'\n'
                '  "Asignee" is no known column: did you mean "assignee"? '
                "rename it or give --map 'Asignee=assignee'; --map 'Asignee=' leaves it as it is"
            ),
        ),
    ],
)  # fmt: skip
def test_a_header_or_option_that_cannot_be_used_stops_the_file(
    header: tuple[str, ...], changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(JobFileError) as caught:
        reader(header, **changed)

    assert caught.value.message == message


def test_a_row_that_could_not_be_read_comes_back_as_it_is() -> None:
    unread = Invalid(1, 2, "x", (Problem("json", "", "", "is cut"),))

    assert reader().read(unread) is unread


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.just(5000).map(lambda digits: 10**digits), st.floats(),
        st.text(max_size=10), st.sampled_from(CELLS),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=5,
)  # fmt: skip
KEY = st.one_of(
    st.sampled_from([*HEADER, *LINKS, "command", "Site", "Username", "Due Date", "Asignee", "_row", "id", ""]),
    st.text(max_size=4),
)


@given(found=st.dictionaries(KEY, JSON, max_size=9), key=st.sampled_from([None, "id"]), need_site=st.booleans())
def test_any_json_object_is_a_job_or_invalid(found: dict[str, Any], key: str | None, need_site: bool) -> None:
    """Never an exception, and what is invalid says why in short words."""
    entry = from_json(found, key_column=key, need_site=need_site, limit=1, where={"id": "1"})

    if isinstance(entry, Invalid):
        assert entry.problems
        assert all(len(problem.value) <= 201 and problem.message for problem in entry.problems)
    else:
        assert entry.asked.command.params()


@given(
    cells=st.lists(JSON, min_size=7, max_size=7),
    defaults=st.sampled_from([{}, {"due": "2027-01-01 10:00:00", "name": "x"}]),
)
def test_any_cells_are_a_job_or_invalid(cells: list[Any], defaults: dict[str, str]) -> None:
    entry = one(HEADER, *cells, defaults=defaults)

    assert isinstance(entry, Job) or entry.problems


def test_keys_without_end_do_not_fill_the_memory() -> None:
    found = RowReader(options())

    for number in range(600):
        found.read(Row(number, number, (f"key{number}",), ("x",), ""))

    assert len(found._plans) <= 256


ROUTED = (*HEADER, "Profile")
HOMES = {"vsoc": "Site of vsoc", "apac": "Site of apac"}


def route(profile: str, command: Any) -> str | Problem:
    """Two profiles, and no D3 for rows without; "tasks" is for tasks alone."""
    if profile == "tasks":
        return "T" if command is CREATE else Problem("profile", "", "", "has no key for it")
    return HOMES.get(profile) or Problem("profile", "", "", "is no profile" if profile else "is empty")


@pytest.mark.parametrize(
    ("cell", "changed", "profile", "site"),
    [
        ("vsoc", {}, "vsoc", "Site of vsoc"),
        (" vsoc ", {}, "vsoc", "Site of vsoc"),
        ("vsoc", {"site": "of the run", "need_site": True}, "vsoc", "Site of vsoc"),
        ("vsoc", {"defaults": {"Site": "set"}}, "vsoc", "set"),
        ("", {"defaults": {"profile": "apac"}}, "apac", "Site of apac"),
        ("vsoc", {"defaults": {"PROFILE": "apac"}}, "vsoc", "Site of vsoc"),
    ],
)
def test_a_row_goes_to_the_profile_it_names_and_to_that_profiles_site(
    cell: str, changed: dict[str, Any], profile: str, site: str
) -> None:
    found = job(one(ROUTED, *CELLS, cell, route=route, **changed))
    assert (found.profile, found.site, found.username) == (profile, site, None)


def test_a_rows_own_site_and_user_come_before_those_of_its_profile() -> None:
    found = job(one((*ROUTED, "Site", "User Name"), *CELLS, "vsoc", "Own", "me", route=route))
    assert (found.profile, found.site, found.username) == ("vsoc", "Own", "me")


@pytest.mark.parametrize(
    ("cell", "changed", "told"),
    [
        ("vsok", {}, ("profile", "vsok", "is no profile")),
        ("", {}, ("profile", "", "is empty")),
        ("", {"need_site": True}, ("profile", "", "is empty")),
        ("", {"defaults": {"profile": "vsok"}}, ("profile", "vsok", "is no profile")),
    ],
)
def test_a_profile_that_cannot_be_used_makes_its_row_invalid_and_nothing_else_is_said_about_it(
    cell: str, changed: dict[str, Any], told: tuple[str, str, str]
) -> None:
    found = one(ROUTED, *CELLS, cell, route=route, **changed)
    assert problems(found) == [told]


def test_a_profile_set_for_all_rows_is_taken_without_a_column() -> None:
    found = job(one(HEADER, *CELLS, route=route, site="of the run", defaults={"profile": "apac"}))
    assert (found.profile, found.site) == ("apac", "Site of apac")
    assert problems(one(HEADER, *CELLS, route=route, defaults={"profile": "no"})) == [
        ("profile", "no", "is no profile")
    ]


def test_a_profile_is_judged_for_the_command_of_its_row() -> None:
    keys = {"incident": "1", "name": "n", "description": "d", "assignee": "a", "due": CELLS[5]}
    assert job(from_json({**keys, "profile": "tasks"}, route=route)).profile == "tasks"
    links = from_json({"source": "1", "linked": "2", "profile": "tasks"}, route=route)
    assert problems(links) == [("profile", "tasks", "has no key for it")]


def test_rows_without_a_column_ask_nobody_about_profiles() -> None:
    def nobody(profile: str, command: Any) -> str:
        raise AssertionError(profile)

    assert job(one(HEADER, *CELLS, route=nobody, site="S")).profile is None


def test_without_anybody_to_judge_it_any_profile_is_taken() -> None:
    assert job(one(ROUTED, *CELLS, "whatever", site="S")).profile == "whatever"


@pytest.mark.parametrize(
    ("keys", "changed", "expected"),
    [
        (ROUTED, {}, True),
        (HEADER, {}, False),
        (HEADER, {"defaults": {"profile": "vsoc"}}, True),
        ((*HEADER, "Mandant"), {"renames": {"Mandant": "profile"}}, True),
        (ROUTED, {"renames": {"Profile": ""}}, False),
    ],
)
def test_a_file_is_routed_when_its_rows_may_name_a_profile(
    keys: tuple[str, ...], changed: dict[str, Any], expected: bool
) -> None:
    assert reader(keys, **changed).routed(keys) is expected


def test_a_profile_that_is_no_text_is_wrong_once() -> None:
    keys = {"incident": "1", "name": "n", "description": "d", "assignee": "a", "due": CELLS[5], "profile": ["a", "b"]}
    assert [code for code, _, _ in problems(from_json(keys, route=route))] == ["profile"]
