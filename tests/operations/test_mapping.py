"""Typed and kept mappings: what counts for a file, what is kept of it, how it is told."""

# ruff: noqa: E501 - a case a line

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3async.d3.commands import all_commands, find
from d3async.errors import JobFileError, SettingsError
from d3async.operations.mapping import (
    Target,
    describe,
    entries_of,
    in_use,
    options_of,
    pairs,
    to_keep,
    together,
    told_saved,
)

CREATE, REMOVE = find("CreateTask"), find("RemoveLinkedIncidents")
assert CREATE is not None
assert REMOVE is not None
EVERY = list(all_commands().values())
Options = dict[str, Any]


def csv(*header: str, commands: list[Any] = EVERY) -> Target:
    return Target("csv", header, commands)


NOTHING: Options = {}
FITS: list[tuple[str, Options, Options, Target, Options]] = [
    ("a header of the file", {"map": ["Who=assignee"]}, {}, csv("Who"), {"map": ["Who=assignee"]}),
    ("a header spelt otherwise", {"map": ["who_ID=assignee"]}, {}, csv("Who Id"), {"map": ["who_ID=assignee"]}),
    ("a header of another file", {"map": ["Who=assignee"]}, {}, csv("Person"), NOTHING),
    ("lines with keys of their own", {"map": ["Who=assignee"]}, {}, Target("jsonl", (), EVERY), {"map": ["Who=assignee"]}),
    ("a header to leave alone", {"map": ["Duedate2="]}, {}, csv("Duedate2"), {"map": ["Duedate2="]}),
    ("a column of another command", {"map": ["Who=assignee"], "set": ["type=A"]}, {}, csv("Who", commands=[REMOVE]), NOTHING),
    ("a column of every command", {"set": ["Site=Rome"]}, {}, csv("Who", commands=[REMOVE]), {"set": ["Site=Rome"]}),
    ("the same header typed", {"map": ["Who=assignee"]}, {"map": ["WHO=name"]}, csv("Who"), NOTHING),
    ("another header typed to be it", {"map": ["Who=assignee"]}, {"map": ["B=Assignee"]}, csv("Who", "B"), NOTHING),
    ("another header typed to be another", {"map": ["Who=assignee"]}, {"map": ["B=name"]}, csv("Who", "B"), {"map": ["Who=assignee"]}),
    ("the same column typed by D3's name", {"set": ["type=A"]}, {"set": ["Task Type=B"]}, csv("Who"), NOTHING),
    ("another column typed", {"set": ["type=A"]}, {"set": ["name=B"]}, csv("Who"), {"set": ["type=A"]}),
    ("a text", {"date_format": "dd.MM.yyyy"}, {}, csv("Who"), {"date_format": "dd.MM.yyyy"}),
    ("a text typed", {"date_format": "dd.MM.yyyy"}, {"date_format": "yyyy"}, csv("Who"), NOTHING),
    ("a text taken back", {"time_zone": "UTC"}, {"time_zone": ""}, csv("Who"), NOTHING),
    ("dates where there are none", {"date_format": "dd", "server_time_zone": "UTC"}, {}, csv("Who", commands=[REMOVE]), NOTHING),
    ("the form of a CSV", {"delimiter": ";", "encoding": "cp1252", "sheet": "T"}, {}, csv("Who"), {"delimiter": ";", "encoding": "cp1252"}),
    ("the form of JSONL", {"delimiter": ";", "encoding": "cp1252", "sheet": "T"}, {}, Target("jsonl", (), EVERY), {"encoding": "cp1252"}),
    ("the form of a workbook", {"delimiter": ";", "encoding": "cp1252", "sheet": "T"}, {}, Target("xlsx", ("a",), EVERY), {"sheet": "T"}),
    ("an id column the file has not", {"id_column": "Ticket"}, {}, csv("Who"), {"id_column": "Ticket"}),
]  # fmt: skip


@pytest.mark.parametrize(("kept", "typed", "target", "used"), [row[1:] for row in FITS], ids=[row[0] for row in FITS])
def test_what_is_kept_counts_where_it_fits_and_nothing_else_was_typed(
    kept: Options, typed: Options, target: Target, used: Options
) -> None:
    assert options_of(in_use(entries_of(kept), entries_of(typed), target)) == used


@pytest.mark.parametrize(
    ("kept", "typed", "read"),
    [
        ({"map": ["A=name"]}, {"map": ["B=assignee"]}, {"map": ["A=name", "B=assignee"]}),
        ({"map": ["A=name"]}, {"map": ["A="]}, {"map": ["A="]}),
        ({"set": ["type=A", "name=N"]}, {"set": ["type="]}, {"set": ["name=N"]}),
        ({}, {"set": ["type="]}, {"set": ["type="]}),
        ({"encoding": "cp1252"}, {"encoding": ""}, {}),
        ({}, {"encoding": ""}, {"encoding": ""}),
    ],
)
def test_typed_and_kept_are_read_together_and_what_is_typed_empty_takes_back(
    kept: Options, typed: Options, read: Options
) -> None:
    assert options_of(together(entries_of(kept), entries_of(typed), csv("A", "B"))) == read


@pytest.mark.parametrize(
    ("kept", "typed", "after"),
    [
        ({}, {"map": ["A=name"], "set": ["type=X"]}, {"map": ["A=name"], "set": ["type=X"]}),
        ({"map": ["A=name", "B=due"]}, {"map": ["a=assignee"]}, {"map": ["a=assignee", "B=due"]}),
        ({"map": ["Elsewhere=assignee"]}, {"map": ["A=assignee"]}, {"map": ["Elsewhere=assignee", "A=assignee"]}),
        ({"map": ["B=assignee"]}, {"map": ["A=assignee"]}, {"map": ["A=assignee"]}),
        ({"set": ["Task Type=X", "name=N"]}, {"set": ["type=Y"]}, {"set": ["type=Y", "name=N"]}),
        ({"set": ["type=X"]}, {"set": ["type="]}, {}),
        ({"map": ["A=name"]}, {"map": ["A="]}, {"map": ["A="]}),
        ({"date_format": "dd", "sheet": "T"}, {"date_format": ""}, {"sheet": "T"}),
        ({"sheet": "T"}, {"delimiter": ";"}, {"sheet": "T", "delimiter": ";"}),
    ],
)
def test_saving_replaces_what_is_about_the_same_and_keeps_the_rest(
    kept: Options, typed: Options, after: Options
) -> None:
    assert options_of(to_keep(entries_of(kept), entries_of(typed), csv("A", "B"))) == after


NAMES = ["A", "B", "c c", "Elsewhere"]
FIELDS = ["incident", "Task Name", "name", "assignee", "source", "Site"]
TEXT = st.sampled_from(["", "x", "y"])
LISTS = {
    "map": st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["", *FIELDS]), max_size=3),
    "set": st.dictionaries(st.sampled_from(FIELDS), TEXT, max_size=3),
}
MAPPINGS = st.fixed_dictionaries(
    {name: found.map(lambda all_: [f"{one}={other}" for one, other in all_.items()]) for name, found in LISTS.items()},
    optional={"date_format": TEXT, "id_column": TEXT, "delimiter": TEXT, "sheet": TEXT},
)
TARGETS = st.builds(
    Target,
    st.sampled_from(["csv", "jsonl", "xlsx"]),
    st.sampled_from([(), ("A", "B", "C C"), ("A", "B", "C C", "x")]),
    st.sampled_from([EVERY, [CREATE], [REMOVE]]),
)


@given(kept=MAPPINGS, typed=MAPPINGS, target=TARGETS)
def test_what_was_saved_alone_reads_the_file_as_typing_it_did(kept: Options, typed: Options, target: Target) -> None:
    kept = {name: text for name, text in kept.items() if text}
    before, now = entries_of(kept), entries_of(typed)
    fitting = {about: entry for about, entry in now.items() if in_use({about: entry}, {}, target)}

    read = together(before, fitting, target)

    assert dict(together(to_keep(before, fitting, target), {}, target)) == dict(read)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"map": ["Bearbeiter=Assignee"], "set": ["Task Type=Default"], "date_format": "dd.MM.yyyy HH:mm"},
            'Bearbeiter = assignee; type is "Default" where empty; dates dd.MM.yyyy HH:mm',
        ),
        ({"map": ["Notes="]}, "Notes left as it is"),
        ({"time_zone": "Europe/Paris", "server_time_zone": "UTC"}, "dates in Europe/Paris sent in UTC"),
        ({"server_time_zone": "UTC"}, "dates sent in UTC"),
        (
            {"id_column": "Ticket", "encoding": "cp1252", "delimiter": ";"},
            'id column "Ticket"; separator ";"; encoding cp1252',
        ),
        ({"sheet": "Tasks 2027"}, 'sheet "Tasks 2027"'),
        ({}, ""),
    ],
)
def test_a_mapping_is_told_in_one_line(options: Options, words: str) -> None:
    assert describe(entries_of(options)) == words


def test_what_saving_takes_back_is_told() -> None:
    typed = entries_of({"map": ["A=name"], "set": ["type="], "date_format": ""})

    assert told_saved(typed) == "A = name; no type any more; no date format any more"


@pytest.mark.parametrize(
    ("options", "commands", "words"),
    [
        ({"map": ["A=asignee"]}, EVERY, 'no column is called "asignee": did you mean "assignee"?'),
        ({"set": ["tpye=A"]}, EVERY, 'no column is called "tpye": did you mean "type"?'),
        ({"set": ["type=A"]}, [REMOVE], 'no column is called "type"'),
    ],
)
def test_a_column_nobody_has_is_refused(options: Options, commands: list[Any], words: str) -> None:
    with pytest.raises(JobFileError) as caught:
        entries_of(options, commands)
    assert caught.value.message.startswith(words)


@pytest.mark.parametrize("texts", [["A"], ["=name"], ["A=name", " A =due"]])
def test_a_pair_says_what_is_what_once(texts: list[str]) -> None:
    with pytest.raises(SettingsError):
        pairs(texts, "--map")
