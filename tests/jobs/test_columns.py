"""Headers: what is recognised, what is nearly so, what cannot be used."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3async.d3.commands import all_commands, find
from d3async.errors import JobFileError
from d3async.jobs.columns import RESULTS_COLUMNS, Naming, bare, choose, distance, match, meaning, missing

CREATE, REMOVE = find("CreateTask"), find("RemoveLinkedIncidents")
assert CREATE is not None
assert REMOVE is not None
NONE = Naming()


@pytest.mark.parametrize(
    ("column", "field"),
    [
        ("incident", "incident"),
        ("Incident Number", "incident"),
        ("INCIDENT_NUMBER", "incident"),
        ("incident-number", "incident"),
        (" Task  Name ", "name"),
        ("taskname", "name"),
        ("Task\nName", "name"),
        ("Task\u00a0Name", "name"),
        ("\ufeffTask Name", "name"),
        ('"Task Name"', "name"),
        ("DueDate", "due"),
        ("due", "due"),
        ("Required", "required"),
        ("site", "Site"),
        ("User name", "Username"),
        ("COMMAND", "command"),
    ],
)
def test_names_match_without_regard_to_case_blanks_and_dashes(column: str, field: str) -> None:
    assert match([column], [CREATE], NONE).at == {field: 0}


@pytest.mark.parametrize(
    ("column", "meant"),
    [
        ("Asignee", "assignee"),
        ("Assigne", "assignee"),
        ("Asisgnee", "assignee"),
        ("Tsak Name", "name"),
        ("Discription", "description"),
        ("Task Discripton", "description"),
        ("Incidents", "incident"),
        ("Incidnet Numbr", "incident"),
        ("Typ", "type"),
        ("Requird", "required"),
        ("Sites", "Site"),
    ],
)
def test_a_near_miss_is_a_problem_with_a_suggestion(column: str, meant: str) -> None:
    columns = match([column], [CREATE], NONE)

    assert columns.at == {}
    assert [(problem.column, problem.message) for problem in columns.problems] == [
        (column, f'is no known column: did you mean "{meant}"?')
    ]


@pytest.mark.parametrize(
    "column", ["Notes", "Owner", "Comment", "Priority", "Date", "Severity", "Task", "User", "ID", "_note"]
)
def test_other_columns_are_left_alone(column: str) -> None:
    assert match([column], [CREATE], NONE).problems == ()


def test_a_near_miss_of_a_column_that_is_there_is_another_column() -> None:
    assert match(["Assignee", "Assignees"], [CREATE], NONE).problems == ()


@pytest.mark.parametrize(
    ("keys", "column", "message"),
    [
        (["Due Date", "due"], "due", 'means the same as "Due Date"'),
        (["due", "due"], "due", "is in the header twice"),
        (["Notes", "x", "Notes "], "Notes", "is in the header twice"),
        (["_row"], "_row", "is a column of d3async's own results"),
        (["_Message"], "_Message", "is a column of d3async's own results"),
    ],
)
def test_columns_that_collide_are_problems(keys: list[str], column: str, message: str) -> None:
    assert [(problem.column, problem.message) for problem in match(keys, [CREATE], NONE).problems] == [
        (column, message)
    ]


def test_every_column_of_the_results_is_reserved() -> None:
    assert len(match(sorted(RESULTS_COLUMNS), [CREATE], NONE).problems) == 12


def test_columns_without_a_name_never_collide() -> None:
    assert match(["", "a", "", " "], [CREATE], NONE).problems == ()


def test_map_says_what_a_column_means_and_what_means_nothing() -> None:
    """An empty meaning leaves the column alone, also where it would mean something by itself."""
    naming = Naming(renames={"Owner": "assignee", "Asignee": "", "due": "", "Deadline": "due"})

    columns = match(["owner", "ASIGNEE", "Due", "deadline"], [CREATE], naming)

    assert columns.at == {"assignee": 0, "due": 3}
    assert columns.problems == ()


def test_the_id_column_is_found_by_its_own_spelling_first() -> None:
    assert match(["ID", "id"], [CREATE], Naming(key="id")).key == 1
    assert match(["Row-ID"], [CREATE], Naming(key="row id")).key == 0
    [problem] = match(["a", "b"], [CREATE], Naming(key="id")).problems
    assert (problem.code, problem.cure) == ("id", "--id-column names one of: a, b")


def test_columns_of_another_command_of_the_file_are_no_near_misses() -> None:
    """`source` is 2 letters from nothing here, but a command to come may have `assigne`."""
    assert match(["Asignee"], [REMOVE], NONE, others=[CREATE]).problems == ()
    assert match(["Linkd"], [REMOVE], NONE, others=[CREATE]).problems != ()


def test_required_columns_that_are_neither_there_nor_set_are_missing() -> None:
    naming = Naming(filled=frozenset({"due"}))
    columns = match(["incident", "Asignee", "name"], [CREATE], naming)

    [problem] = missing(CREATE, columns, naming)

    assert (problem.column, problem.message) == ("description", '(D3: "Task Description") is missing')


@pytest.mark.parametrize(
    ("keys", "filled", "command"),
    [
        (["Incident Number", "Task Name", "Task Description", "Assignee", "Due Date"], set(), CREATE),
        (["source", "linked"], set(), REMOVE),
        (["source", "linked", "note"], set(), REMOVE),
        (["source"], {"linked"}, REMOVE),
        (["Source Incident Number", "Linkd"], set(), REMOVE),
        (["incident", "name"], set(), CREATE),
        (["incident", "name", "due", "source"], set(), CREATE),
    ],
)
def test_the_header_chooses_the_command(keys: list[str], filled: set[str], command: object) -> None:
    """Complete or nearly so; what is missing is then said for the right one."""
    assert choose(keys, Naming(filled=frozenset(filled))) is command


@pytest.mark.parametrize(
    "keys",
    [
        ["a", "b"],
        [],
        ["incident", "name", "description", "assignee", "due", "source", "linked"],
    ],
)
def test_a_header_of_none_or_of_several_commands_is_refused(keys: list[str]) -> None:
    with pytest.raises(JobFileError) as caught:
        choose(keys, NONE)

    assert caught.value.message == (
        f"the columns ({', '.join(keys)}) do not say which command is meant: give --command"
        " (CreateTask, RemoveLinkedIncidents), or begin with d3async template"
    )


def test_a_name_nobody_knows_is_refused_with_a_suggestion() -> None:
    assert meaning("task-name", [CREATE]) == "name"
    for name, message in [
        ("assigne", 'no column is called "assigne": did you mean "assignee"?'),
        ("xyz", 'no column is called "xyz"'),
    ]:
        with pytest.raises(JobFileError) as caught:
            meaning(name, [CREATE])
        assert caught.value.message == message


@pytest.mark.parametrize(
    ("one", "other", "letters"),
    [("", "", 0), ("a", "", 1), ("asignee", "assignee", 1), ("tsak", "task", 1), ("abc", "xyz", 3), ("ca", "abc", 3)],
)
def test_distance_counts_letters(one: str, other: str, letters: int) -> None:
    assert distance(one, other) == distance(other, one) == letters


@given(
    keys=st.lists(
        st.one_of(st.text(max_size=8), st.sampled_from(["due", "Due Date", "_row", "Asignee", "command"])), max_size=6
    )
)
def test_any_header_is_matched_or_complained_about(keys: list[str]) -> None:
    """Every known column is placed once, or named as a problem."""
    columns = match(keys, list(all_commands().values()), NONE)

    assert all(bare(keys[place]) for place in columns.at.values())
    assert len(set(columns.at.values())) == len(columns.at)
