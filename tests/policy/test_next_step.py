"""A suggested command is safe to type and does something by itself; where something comes first, a sentence says it."""

from __future__ import annotations

import ntpath
import shlex
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3async.cli.main import cli
from d3async.errors import GONE
from d3async.policy.next_step import (
    APP,
    NEVER,
    PLACES,
    READING,
    SETTINGS,
    STDIN,
    FeedbackRun,
    Situation,
    arguments_of,
    fleet_steps,
    forgotten,
    next_steps,
    typed,
)

AT = Situation(
    outcomes={}, folder="tasks.d3run", name="tasks.csv", file="tasks.csv", mend_file="tasks.d3run/failed.csv"
)
RUN = "d3async run tasks.csv --continue"
MENDED = FeedbackRun("tasks.d3run/failed.csv", inside=True)
RECONCILE = "d3async reconcile tasks.d3run"


def at(**known: Any) -> Situation:
    outcomes = {name: known.pop(name) for name in ("ok", "failed", "unknown", "invalid", "unsent") if name in known}
    return replace(AT, outcomes=outcomes, **known)


@pytest.mark.parametrize(
    ("known", "commands", "notes"),
    [
        (at(ok=3), [], []),
        (at(ok=3, unsent=2), [RUN], []),
        (at(unsent=2, unknown=1, log_key=True), [RUN, RECONCILE], []),
        (at(unsent=2, stop="terminated", progress=False), [RUN], []),
        (at(unsent=2, usual_folder=False, folder="-o"), ["d3async run tasks.csv -o ./-o --continue"], []),
        (at(unsent=1, file="-x.csv"), ["d3async run ./-x.csv --continue"], []),
        (
            at(unsent=1, reading=("--map", "A=name"), settings=("--profile", "p")),
            ["d3async run tasks.csv --map A=name --profile p --continue"],
            [],
        ),
        # repeatable rows are sent again while that helps
        (at(unknown=2, repeatable=2), [RUN], []),
        (at(unknown=2, repeatable=2, progress=False), [], ["no row got ok this time"]),
        (at(unsent=2, stop="halt"), [RUN], []),
        (at(unsent=2, stop="halt", progress=False), [], ["no row got ok this time"]),
        # rows that a feedback file mended go on with that file
        (at(unsent=2, feedback=MENDED), ["d3async run tasks.d3run/failed.csv --continue"], []),
        (at(unsent=2, feedback=MENDED, file=None), ["d3async run tasks.d3run/failed.csv --continue"], []),
        (
            at(unsent=2, feedback=FeedbackRun("mine.csv", inside=False, reading=("--skip-invalid",))),
            ["d3async run mine.csv -o tasks.d3run --skip-invalid --continue"],
            [],
        ),
        (at(unsent=2, feedback=MENDED, stop="halt", progress=False), [], ["run tasks.d3run/failed.csv again later"]),
        (at(unsent=2, held={"unauthorized": 2}, feedback=MENDED), [], ["run tasks.d3run/failed.csv again"]),
        # what must be mended first is no command
        (at(failed=2, to_mend=2), [], ["tasks.d3run/failed.csv: mend its rows"]),
        (at(failed=2), [], []),
        (at(invalid=2, to_mend=2), [], ["mend its rows"]),
        (at(failed=2, did_not_happen=1, to_mend=1), [RUN], ["mend its rows"]),
        (at(unsent=2, file=None), [], ["put tasks.csv back where it was"]),
        (at(unsent=2, name=STDIN, file=None), [], ["give the same rows on stdin again"]),
        (at(unsent=2, name=APP, file=None), [], ["run the app again"]),
        (at(unsent=2, identical=True), [], ["say once more that identical rows are meant"]),
        (at(unsent=2, forgotten=("--base-url",)), [], ["as before, --base-url"]),
        # a key that D3 does not accept
        (at(unsent=2, held={"unauthorized": 2}), [], ["d3async doctor says more; once D3 accepts it"]),
        (at(unsent=2, held={"unauthorized": 2}, settings=("--site", "A B")), [],
         ["d3async doctor --site 'A B' says more"]),
        (at(unsent=2, held={"unauthorized": 2}, doctors=["a", "b"]), [],
         ["d3async doctor --profile a and d3async doctor --profile b say more"]),
        (at(unsent=3, held={"unauthorized": 2}, doctors=["a"]), [RUN], []),
        (at(unsent=3, held={"unauthorized": 2, "unreachable": 1}, doctors=["a"]), [],
         ["d3async doctor --profile a says more", "1 row is left: D3 could not be reached"]),
        # a D3 that has to be waited for
        (at(unsent=2, held={"unreachable": 2}), [], ["2 rows are left: D3 could not be reached; once that"]),
        (at(unsent=1, held={"throttled": 1}), [], ["1 row is left: D3 asked for a longer pause than --max-wait"]),
        (at(unsent=1, held={"x": 1}), [], ["1 row is left: the run says why it stopped"]),
        (at(unsent=2, unknown=1, log_key=True, held={"unreachable": 2}), [RECONCILE], ["could not be reached"]),
        (at(unsent=3, held={"unreachable": 2}), [RUN], []),
        # rows that may have happened are settled, once
        (at(unknown=1, log_key=True), [RECONCILE], []),
        (at(unknown=1, log_key=True, looked_up=True), [], ["look for 1 row in D3"]),
        (at(unknown=2), [], ["with a key for D3's log"]),
        (at(unknown=1, log_key=True, settings=("--profile", "p")), [f"{RECONCILE} --profile p"], []),
        # the folder was deleted, or put aside for a new run
        (at(unsent=2, unknown=1, log_key=True, stop=GONE, home="/a/tasks.d3run"), [], ["move tasks.d3run back to /a/"]),
        (at(unsent=2, replaced=True), [], ["replaced by a newer one"]),
    ],
)  # fmt: skip
def test_what_is_left_decides(known: Situation, commands: list[str], notes: list[str]) -> None:
    steps = next_steps(known)
    assert [shlex.join(command.arguments) for command in steps.commands] == commands
    assert len(steps.notes) == len(notes)
    for note, part in zip(steps.notes, notes, strict=True):
        assert part in note.text


def test_every_option_of_run_is_either_suggested_again_or_never() -> None:
    """Who adds an option to `run` decides here what becomes of it."""
    command = cli.get_command(None, "run")  # type: ignore[arg-type]
    assert command is not None
    names = {parameter.name for parameter in command.params if parameter.name}
    shown = {"file", "output", "continues", "progress", "quiet", "verbose", "as_json", "save_mapping", "help"}
    assert names - shown - {*READING, *SETTINGS, *PLACES} <= NEVER


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"names": ["A=name", "B=due"], "skip_invalid": True}, ["--map", "A=name", "--map", "B=due", "--skip-invalid"]),
        ({"encoding": ""}, ["--encoding="]),
        ({"drain_timeout": 1_000_000.0}, ["--drain-timeout", "1000000"]),
        ({"fresh": True, "yes": True, "limit": 1, "where": ["a=b"], "x; rm -rf ~": "y", "names": [1, {}]}, []),
    ],
)  # fmt: skip
def test_a_journal_can_bring_no_other_option_into_a_command(options: dict[str, Any], expected: list[str]) -> None:
    assert list(arguments_of(options, READING)) == expected


def test_settings_that_say_where_keys_go_are_named_and_not_copied() -> None:
    assert forgotten({"forgotten": ["base_url", "x; rm -rf ~"]}) == ("--base-url",)
    assert arguments_of({"base_url": "https://elsewhere.example.com"}, {**READING, **SETTINGS}) == ()


@given(st.lists(st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), max_size=12)))
def test_a_line_for_a_posix_shell_means_the_words_it_was_made_of(words: list[str]) -> None:
    line = typed(["d3async", *words], windows=False)
    assert line is not None
    assert shlex.split(line) == ["d3async", *words]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (r"C:\jobs\tasks.csv", r"C:\jobs\tasks.csv"),
        (r"C:\my jobs\tasks.csv", r'"C:\my jobs\tasks.csv"'),
        (ntpath.join("my jobs", ""), '"my jobs' + "\\\\" + '"'),
        ("a&b", '"a&b"'),
        ("Nr=incident", "Nr=incident"),
        ("--map", "--map"),
        ("-a.b", '"-a.b"'),
        ("it's", '"it\'s"'),
        ("a,b;c", '"a,b;c"'),
        ("Fälle.csv", "Fälle.csv"),
        ("50%", None),
        ("$HOME", None),
        ('say "x"', None),
        ("back`tick", None),
        ("two\nlines", None),
    ],
)
def test_a_line_for_windows_means_the_same_in_cmd_and_powershell_or_is_not_shown(
    word: str, expected: str | None
) -> None:
    assert typed([word], windows=True) == expected


def test_a_line_break_in_a_name_is_never_shown_as_a_command() -> None:
    assert typed(["d3async", "run", "a\nrm -rf ~"], windows=False) is None


@pytest.mark.parametrize(
    ("outcomes", "file", "submitted", "expected"),
    [
        ({"ok": 1}, "a.csv", {}, []),
        ({"unsent": 1}, "a.csv", {"run": "night", "profile": "acme", "id_column": "nr"},
         ["d3async submit a.csv --run night --profile acme --id-column nr --fleet postgresql://db/fleet"]),
        ({"unsent": 1}, None, {}, []),
        ({"unsent": 1}, "a.csv", {"forgotten": ["config"]}, []),
        ({"unknown": 1}, None, {}, ["d3async reconcile night --fleet postgresql://db/fleet"]),
    ],
)  # fmt: skip
def test_a_run_of_a_fleet(outcomes: dict[str, int], file: str | None, submitted: Any, expected: list[str]) -> None:
    steps = fleet_steps(
        outcomes, run="night", submitted=submitted, file=file, fleet=("--fleet", "postgresql://db/fleet")
    )
    assert [shlex.join(command.arguments) for command in steps.commands] == expected
