"""A mapping in a profile: typed and saved, used and named, never in the way."""

# ruff: noqa: E501, ISC004 - what is said stands here as it is said

from __future__ import annotations

import io
import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from d3async.cli.main import cli, exit_code_of

CONFIG = """\
# the sites I look after
[profiles.acme]  # Paris
rate = 5

# Milan
[profiles.other.files]
map = ["Titolo=name"]
"""
THEIRS = "Nr;Betreff;description;Bearbeiter;Bis\n1-1;Call;Ask;ann;31.12.2099 17:00\n"
TYPED = (
    "--map", "Nr=incident", "--map", "Betreff=name", "--map", "Bearbeiter=assignee", "--map", "Bis=due",
    "--set", "Task Type=Default", "--date-format", "dd.MM.yyyy HH:mm",
)  # fmt: skip
WORDS = 'Nr = incident; Betreff = name; Bearbeiter = assignee; Bis = due; type is "Default" where empty; dates dd.MM.yyyy HH:mm'
KEPT = """
[profiles.acme.files]
map = ["Nr=incident", "Betreff=name", "Bearbeiter=assignee", "Bis=due"]
set = ["Task Type=Default"]
date_format = "dd.MM.yyyy HH:mm"
"""
OURS = "incident,name,description,assignee,due\n1-1,Call,Ask,ann,2099-12-31 17:00:00\n"
Typed = Callable[..., tuple[int, str]]


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Runs `check` on a file of that content beside `CONFIG`: exit code and stderr."""
    for name in [name for name in os.environ if name.startswith("D3_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("D3_CONFIG", "config.toml")
    monkeypatch.chdir(tmp_path)
    Path("config.toml").write_text(CONFIG)

    def run(content: str, *arguments: str, name: str = "tasks.csv", command: str = "check") -> tuple[int, str]:
        Path(name).write_text(content)
        monkeypatch.setattr(sys, "argv", ["d3async", command, name, *arguments])
        code = exit_code_of(cli, [command, name, *arguments])
        return code, capsys.readouterr().err

    return run


def keep(text: str) -> None:
    Path("config.toml").write_text(f"{CONFIG}\n[profiles.acme.files]\n{text}\n")


def test_what_was_typed_is_saved_and_then_enough(typed: Typed) -> None:
    code, saved = typed(THEIRS, "--profile", "acme", *TYPED, "--save-mapping")
    again, used = typed(THEIRS, "--profile", "acme")

    assert (code, again) == (0, 0)
    assert saved.splitlines()[1:] == [
        f"  saved in profile acme (config.toml): {WORDS}",
        "  1 task to create: 1 person, 1 incident",
        "Nothing is wrong. To send it: d3async run tasks.csv --profile acme",
    ]
    assert used.splitlines()[1] == f"  mapping of profile acme: {WORDS}"
    assert Path("config.toml").read_text() == CONFIG + KEPT


@pytest.mark.parametrize("how", ["D3_PROFILE", "default_profile"])
def test_it_counts_however_the_profile_was_chosen(typed: Typed, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if how == "D3_PROFILE":
        monkeypatch.setenv("D3_PROFILE", "acme")
    else:
        Path("config.toml").write_text(f'default_profile = "acme"\n{CONFIG}')
    typed(THEIRS, *TYPED, "--save-mapping")

    code, err = typed(THEIRS)

    assert code == 0
    assert f"  mapping of profile acme: {WORDS}\n" in err


def test_without_the_profile_it_does_not_count(typed: Typed) -> None:
    typed(THEIRS, "--profile", "acme", *TYPED, "--save-mapping")

    assert typed(THEIRS)[0] == 2


REFUSED = {
    "no profile": (
        (*TYPED, "--save-mapping"),
        "d3async: --save-mapping saves in a profile of config.toml: give --profile NAME, or set D3_PROFILE (it has: acme, other)\n",
    ),
    "nothing typed": (
        ("--profile", "acme", "--save-mapping"),
        "d3async: --save-mapping saves what is typed of --map, --set, --date-format, --time-zone, --server-time-zone, "
        "--id-column, --encoding, --delimiter, --sheet: none is\n",
    ),
    "a profile that is not there": (
        ("--profile", "acem", *TYPED, "--save-mapping"),
        'd3async: config.toml: there is no profile "acem" in it (it has: acme, other)\n',
    ),
    "a header the file has not": (
        ("--profile", "acme", *TYPED, "--map", "Bearbeitr=assignee", "--save-mapping"),
        'd3async: tasks.csv: the header has no column "Bearbeitr"; it has: Nr, Betreff, description, Bearbeiter, Bis\n',
    ),
    "a header that does not fit": (
        ("--profile", "acme", *TYPED[2:], "--save-mapping"),
        'd3async: tasks.csv: the header cannot be used (it has: Nr, Betreff, description, Bearbeiter, Bis):\n'
        '  "incident" (D3: "Incident Number") is missing; --map \'YOUR COLUMN=incident\' says which column it is, '
        "--set 'incident=…' fills it\n",
    ),
    "a date format that is none": (
        ("--profile", "acme", *TYPED[:-1], "dd.MM", "--save-mapping"),
        'd3async: --date-format "dd.MM" lacks the year: it is written like dd/MM/yyyy HH:mm\n',
    ),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "words"), REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("command", ["check", "run"])
def test_nothing_is_saved_that_cannot_be_used(
    typed: Typed, command: str, arguments: tuple[str, ...], words: str
) -> None:
    known = ("--base-url", "http://127.0.0.1:9/x", "--username", "u", "--site", "s")

    code, err = typed(THEIRS, *arguments, *known, command=command)

    assert (code, err) == (2, words)
    assert Path("config.toml").read_text() == CONFIG


def test_without_a_config_file_it_says_what_to_begin_with(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("D3_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(Path.cwd()))

    code, err = typed(OURS, "--map", "name=name", "--save-mapping")

    assert code == 2
    assert err.endswith("(it has none: begin one with [profiles.NAME])\n")


def test_it_is_saved_though_rows_are_invalid(typed: Typed) -> None:
    code, err = typed(THEIRS.replace("ann", ""), "--profile", "acme", *TYPED, "--save-mapping")

    assert code == 3
    assert "saved in profile acme" in err


def test_a_config_file_that_holds_a_secret_keeps_to_its_owner(typed: Typed) -> None:
    Path("config.toml").write_text('[profiles.acme]\napi_key = "very secret"\n')
    Path("config.toml").chmod(0o644)
    open_to_all = typed(THEIRS, "--profile", "acme", *TYPED, "--save-mapping")
    Path("config.toml").chmod(0o600)
    code, err = typed(THEIRS, "--profile", "acme", *TYPED, "--save-mapping")

    if os.name == "posix":
        assert open_to_all[0] == 2
        assert "holds a secret and others may read it (mode 644)" in open_to_all[1]
        assert stat.S_IMODE(Path("config.toml").stat().st_mode) == 0o600
    assert code == 0
    assert "very secret" not in err
    assert Path("config.toml").read_text() == f'[profiles.acme]\napi_key = "very secret"\n{KEPT}'


def test_a_file_that_cannot_be_written_says_so_and_stays(typed: Typed) -> None:
    Path(".config.toml.lock").mkdir()

    code, err = typed(THEIRS, "--profile", "acme", *TYPED, "--save-mapping")

    assert code == 2
    assert err.endswith("the mapping was not saved, the file is as it was\n")
    assert Path("config.toml").read_text() == CONFIG


USED = {
    "headers of other files are left out": (OURS, 'map = ["Bearbeiter=assignee"]', (), 0, None),
    "columns of the other command are left out": (
        "source,linked\n1-1,1-2\n", 'map = ["Bearbeiter=assignee"]\nset = ["type=A"]\ndate_format = "dd.MM.yyyy"', (), 0, None,
    ),
    "also where the command is typed": (
        "source,linked,Bearbeiter\n1-1,1-2,x\n", 'map = ["Bearbeiter=assignee"]\nset = ["type=A"]',
        ("--command", "remove-linked-incidents"), 0, None,
    ),
    "the sheet of a workbook is none of a CSV": (OURS, 'sheet = "Tasks"', (), 0, None),
    "a header that would be a near miss is left alone": (
        OURS.replace("due", "due,Sites").replace("00\n", "00,x\n"), 'map = ["Sites="]', (), 0, "Sites left as it is",
    ),
    "what is typed comes first": (
        OURS.replace("assignee", "Wer"), 'map = ["Wer=name"]\nset = ["type=A"]', ("--map", "Wer=assignee", "--set", "Task Type=B"), 0, None,
    ),
    "another header that is typed to be it": (
        OURS.replace("assignee", "Wer,Wo").replace("ann", "ann,here"), 'map = ["Wo=assignee"]', ("--map", "Wer=assignee"), 0, None,
    ),
    "the rest goes on counting": (
        OURS.replace("assignee", "Wer"), 'map = ["Wer=assignee"]\nset = ["type=A"]', ("--set", "type=B"), 0, "Wer = assignee",
    ),
    "the form is as kept": (
        OURS.replace(",", "|"), 'delimiter = "|"\nencoding = "cp1252"', (), 0, 'separator "|"; encoding cp1252',
    ),
    "a form typed empty is detected again": (OURS, 'delimiter = "|"', ("--delimiter", ""), 0, None),
    "zones together, one typed": (
        OURS, 'time_zone = "Europe/Paris"', ("--server-time-zone", "UTC"), 0, "dates in Europe/Paris",
    ),
    "an id column": (OURS, 'id_column = "name"', (), 0, 'id column "name"'),
}  # fmt: skip


@pytest.mark.parametrize(("content", "kept", "arguments", "code", "words"), USED.values(), ids=USED.keys())
def test_what_is_kept_counts_where_it_fits_and_is_named(
    typed: Typed, content: str, kept: str, arguments: tuple[str, ...], code: int, words: str | None
) -> None:
    keep(kept)

    found, err = typed(content, "--profile", "acme", *arguments)

    named = [line.removeprefix("  mapping of profile acme: ") for line in err.splitlines() if "mapping of" in line]
    assert (found, named) == (code, [words] if words else []), err


ERRORS = {
    "a column nobody has": (
        OURS, 'map = ["Wer=asignee"]', (),
        'd3async: tasks.csv: no column is called "asignee": did you mean "assignee"?\n'
        '  profile acme (config.toml) says map = ["Wer=asignee"]; an option that is typed wins, one that is typed empty takes it back\n',
    ),
    "an id column that rows done would be new without": (
        OURS, 'id_column = "Ticket"', (),
        'd3async: tasks.csv: the header cannot be used (it has: incident, name, description, assignee, due):\n'
        '  "Ticket" is not in the header; --id-column names one of: incident, name, description, assignee, due\n'
        '  profile acme (config.toml) says id_column = "Ticket"; an option that is typed wins, one that is typed empty takes it back\n',
    ),
    "a date format": (
        OURS, 'date_format = "dd.MM"', (),
        'd3async: --date-format "dd.MM" lacks the year: it is written like dd/MM/yyyy HH:mm\n'
        '  profile acme (config.toml) says date_format = "dd.MM"; an option that is typed wins, one that is typed empty takes it back\n',
    ),
    "two headers for one column": (
        OURS.replace("assignee", "assignee,Wer").replace("ann", "ann,x"), 'map = ["Wer=assignee"]', (),
        'd3async: tasks.csv: the header cannot be used (it has: incident, name, description, assignee, Wer, due):\n'
        '  "Wer" means the same as "assignee"; remove one, or leave it out with --map \'Wer=\'\n'
        '  profile acme (config.toml) says map = ["Wer=assignee"]; an option that is typed wins, one that is typed empty takes it back\n',
    ),
    "an encoding": (
        OURS, 'encoding = "cp9"', (),
        'd3async: tasks.csv: no encoding is called "cp9": try utf-8, utf-16, cp1252\n'
        '  profile acme (config.toml) says encoding = "cp9"; an option that is typed wins, one that is typed empty takes it back\n',
    ),
    "a name nobody has": (
        OURS, 'colums = "x"', (),
        'd3async: config.toml: [profiles.acme] files has no setting "colums"; did you mean "id_column"?\n',
    ),
    "what is typed wrong is the typist's": (
        OURS, 'map = ["Wer=assignee"]', ("--time-zone", "Mars"),
        'd3async: --time-zone "Mars" is no time zone: they are called like Europe/Paris\n',
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "kept", "arguments", "words"), ERRORS.values(), ids=ERRORS.keys())
def test_what_is_kept_and_cannot_be_used_is_told_with_where_it_stands(
    typed: Typed, content: str, kept: str, arguments: tuple[str, ...], words: str
) -> None:
    keep(kept)

    assert typed(content, "--profile", "acme", *arguments) == (2, words)


def test_what_is_typed_empty_is_taken_back_for_good_when_saved(typed: Typed) -> None:
    keep('set = ["type=A", "name=N"]  # both\ndate_format = "dd.MM.yyyy"')

    code, err = typed(OURS, "--profile", "acme", "--set", "type=", "--date-format", "", "--save-mapping")

    assert code == 0
    assert '  mapping of profile acme: name is "N" where empty\n' in err
    assert "  saved in profile acme (config.toml): no type any more; no date format any more\n" in err
    assert Path("config.toml").read_text() == f'{CONFIG}\n[profiles.acme.files]\nset = ["name=N"]  # both\n'


def test_lines_of_json_may_lack_what_is_mapped(typed: Typed) -> None:
    keep('map = ["Wer=assignee", "Nie=due"]')
    rows = [
        {"incident": "1-1", "name": "n", "description": "d", "Wer": "ann", "due": "2099-12-31 17:00:00"},
        {"incident": "1-2", "name": "n", "description": "d", "assignee": "ann", "due": "2099-12-31 17:00:00"},
    ]

    code, err = typed("".join(json.dumps(row) + "\n" for row in rows), "--profile", "acme", name="t.jsonl")

    assert code == 0
    assert "  mapping of profile acme: Wer = assignee; Nie = due\n" in err


def test_stdin_is_read_by_it_and_can_be_saved(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in ([*TYPED, "--save-mapping"], []):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(THEIRS.encode())))
        assert exit_code_of(cli, ["check", "-", "--profile", "acme", *arguments]) == 0
    assert f"mapping of profile acme: {WORDS}" in capsys.readouterr().err
