"""`d3async check`: everything wrong with a file at once, in words that say what to do."""

# ruff: noqa: E501, ISC004 - what is said stands here as it is said

from __future__ import annotations

import csv
import io
import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from d3async.cli.main import cli, exit_code_of

HEADER = "incident,name,description,assignee,due\n"
ROW = "20260125-1,Call,Ask,ann,2099-12-31 17:00:00\n"
GOOD = HEADER + ROW
Check = Callable[..., tuple[int, str, str]]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    """Runs `check` on a file of that content in an empty folder: exit code, stdout, stderr."""
    for name in [name for name in os.environ if name.startswith("D3_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("D3_CONFIG", os.devnull)
    monkeypatch.chdir(tmp_path)

    def run(content: str | bytes, *arguments: str, name: str = "tasks.csv") -> tuple[int, str, str]:
        Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
        monkeypatch.setattr(sys, "argv", ["d3async", "check", name, *arguments])
        code = exit_code_of(cli, ["check", name, *arguments])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def test_a_good_file_says_what_it_is_and_what_to_type_next(check: Check) -> None:
    code, out, err = check(GOOD + ROW.replace("0125-1", "0125-2").replace("ann", "bob"), "--allow-duplicates")

    assert (code, out) == (0, "")
    assert err == (
        'tasks.csv: 2 rows, CreateTask, UTF-8, separator ","\n'
        "  2 tasks to create: 2 people, 2 incidents\n"
        "Nothing is wrong. To send it: d3async run tasks.csv\n"
    )
    assert not Path("tasks.d3run").exists()


def test_links_are_counted_one_by_one(check: Check) -> None:
    code, _, err = check("source,linked\n1-1,1-2;1-3\n1-4,1-5\n")

    assert code == 0
    assert "  3 links to remove: 2 source incidents\n" in err


def test_the_story_of_the_analyst(check: Check) -> None:
    """Two causes, 215 rows, all of them found at once: what story.md promises."""
    rows = [f"2026-{number},Call {number},Ask,ann,{number % 28 + 1:02}/03/2099" for number in range(214)]
    rows[100:100] = ["2026-999,Call,Ask,,2099-12-31 17:00:00"]

    code, _, err = check(b"\xef\xbb\xbf" + (HEADER + "\n".join(rows)).replace(",", ";").encode())

    assert code == 3
    assert err == (
        'tasks.csv: 215 rows, CreateTask, UTF-8 with BOM, separator ";"\n'
        "\n"
        "2 problems in 215 rows:\n"
        '  due       214 rows like "13/03/2099" (lines 2, 3, 4 …): day or month first? give --date-format dd/MM/yyyy\n'
        "  assignee  line 102 is empty\n"
        f"All of them: {Path('tasks.d3run/errors.csv')}\n"
    )
    with Path("tasks.d3run/errors.csv").open(encoding="utf-8-sig", newline="") as file:
        errors = list(csv.DictReader(file))
    assert len(errors) == 215
    assert errors[12] == {
        "line": "14",
        "row": "13",
        "column": "due",
        "code": "invalid.due",
        "value": "13/03/2099",
        "message": "day or month first?",
        "cure": "give --date-format dd/MM/yyyy",
    }


MISTAKES = {
    "a header misspelt": (
        GOOD.replace("assignee", "Asignee"), 2,
        "d3async: tasks.csv: the header cannot be used (it has: incident, name, description, Asignee, due):\n"
        '  "Asignee" is no known column: did you mean "assignee"? rename it or give --map \'Asignee=assignee\'; '
        "--map 'Asignee=' leaves it as it is\n",
    ),
    "a column missing": (
        "incident,name,assignee,due\n1-1,Call,ann,2099-12-31 17:00:00\n", 2,
        "d3async: tasks.csv: the header cannot be used (it has: incident, name, assignee, due):\n"
        '  "description" (D3: "Task Description") is missing; --map \'YOUR COLUMN=description\' says which column it is, '
        "--set 'description=…' fills it\n",
    ),
    "no header": (
        ROW * 2, 2,
        "d3async: tasks.csv: the columns (20260125-1, Call, Ask, ann, 2099-12-31 17:00:00) do not say which command is "
        "meant: give --command (CreateTask, RemoveLinkedIncidents), or begin with d3async template\n",
    ),
    "two columns that mean the same": (
        HEADER.replace("due", "due,Due Date") + ROW, 2,
        "d3async: tasks.csv: the header cannot be used (it has: incident, name, description, assignee, due, Due Date):\n"
        '  "Due Date" means the same as "due"; remove one, or leave it out with --map \'Due Date=\'\n',
    ),
    "results taken for a job file": (
        HEADER.replace("incident", "_row,incident") + "1," + ROW, 2,
        "d3async: tasks.csv: the header cannot be used (it has: _row, incident, name, description, assignee, due):\n"
        '  "_row" is a column of d3async\'s own results; this looks like a results.csv: take the failed.csv beside it, '
        "or remove the columns that begin with _\n",
    ),
    "a header and nothing below": (HEADER, 2, "d3async: tasks.csv: has a header and no rows\n"),
    "an empty file": ("", 2, "d3async: tasks.csv: is empty\n"),
    "a date that could be two": (
        GOOD.replace("2099-12-31 17:00:00", "03/04/2099"), 3,
        '  due  line 2 "03/04/2099": day or month first? give --date-format dd/MM/yyyy or MM/dd/yyyy\n',
    ),
    "a day that does not exist": (
        GOOD.replace("2099-12-31", "2099-02-30"), 3, '  due  line 2 "2099-02-30 17:00:00" is no real date\n'
    ),
    "a date with its zone": (
        GOOD.replace(" 17:00:00", "T17:00:00+01:00"), 3,
        '  due  line 2 "2099-12-31T17:00:00+01:00" has a time zone and D3 takes none; '
        "give --server-time-zone: times are then converted to it\n",
    ),
    "an empty cell": (GOOD.replace("ann", ""), 3, "  assignee  line 2 is empty\n"),
    "neither yes nor no": (
        GOOD.replace("due\n", "due,required\n").replace("00\n", "00,maybe\n"), 3,
        '  required  line 2 "maybe" is neither Yes nor No; write Yes or No\n',
    ),
    "a separator in a cell without quotes": (
        GOOD.replace("Ask", "Ask, then call"), 3,
        '  row  line 2 "20260125-1,Call,Ask, then call,ann,2099-12-31 17:00:00" has 6 cells, the header has 5; '
        "put quotes around a cell that contains the separator\n",
    ),
    "a quote that never closes": (
        GOOD + '1-2,"Call,Ask,ann,2099-12-31 17:00:00\n', 2, "d3async: tasks.csv: line 3 opens a quote that never closes\n"
    ),
    "the same task twice": (
        GOOD + "\n" + ROW, 3, '  row  line 4 "20260125-1": the same as line 2; --allow-duplicates if both are meant\n'
    ),
    "a workbook named .csv": (
        b"PK\x03\x04", 2, "d3async: tasks.csv: is an Excel workbook or another ZIP file: give --format xlsx, or name it .xlsx\n"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "code", "words"), MISTAKES.values(), ids=MISTAKES.keys())
def test_the_most_likely_mistakes_are_answered_word_for_word(
    check: Check, content: str | bytes, code: int, words: str
) -> None:
    found, out, err = check(content)

    assert (found, out) == (code, "")
    assert err.endswith(words)


def test_few_problems_are_told_and_not_filed(check: Check) -> None:
    check(GOOD.replace("ann", ""))

    assert not Path("tasks.d3run").exists()


def test_a_folder_that_is_asked_for_gets_every_problem_for_the_owner_alone(check: Check) -> None:
    check(GOOD.replace("ann", ""), "-o", "there/errors")

    path = Path("there/errors/errors.csv")
    assert path.read_bytes() == (
        "\ufeffline,row,column,code,value,message,cure\r\n2,1,assignee,invalid.assignee,,is empty,\r\n".encode()
    )
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_old_errors_do_not_outlive_a_mended_file(check: Check) -> None:
    check(GOOD.replace("ann", ""), "-o", "errors")
    check(GOOD, "-o", "errors")

    assert not Path("errors/errors.csv").exists()


def test_a_formula_is_not_run_by_whoever_opens_the_errors(check: Check) -> None:
    check(GOOD.replace("2099-12-31 17:00:00", "=cmd()"), "-o", "errors")

    assert ",'=cmd()," in Path("errors/errors.csv").read_text(encoding="utf-8-sig")


def test_json_holds_everything_that_was_found(check: Check) -> None:
    code, out, err = check(GOOD + ROW.replace("ann", "=x").replace("2099-12-31 17:00:00", "soon") + ROW + ROW, "--json")

    told = json.loads(out)
    assert code == 3
    assert (told["file"], told["rows"], told["invalid"]) == ("tasks.csv", 4, 3)
    assert [(problem["line"], problem["code"], problem["value"]) for problem in told["problems"]] == [
        (3, "invalid.due", "soon"),
        (4, "invalid.duplicate", "20260125-1"),
        (5, "invalid.duplicate", "20260125-1"),
    ]
    assert told["format"]["delimiter"] == ","
    assert told["warnings"] == []
    assert "problems in" not in err


def test_warnings_do_not_block(check: Check) -> None:
    code, _, err = check(GOOD.replace("2099", "1999").replace("20260125-1", "2.02E+07"))

    assert code == 0
    assert err.splitlines()[2:6] == [
        "",
        "2 things to look at:",
        '  incident  line 2 "2.02E+07" does not look like an incident number',
        '  due       line 2 "1999-12-31 17:00:00" is in the past',
    ]


def test_doubts_about_the_file_are_told(check: Check) -> None:
    _, _, err = check((HEADER + ROW.replace("ann", "Zoé")).encode("cp1252"))

    assert "  line 2 is not UTF-8, so cp1252 is assumed: if names look wrong, give --encoding\n" in err


def test_what_was_found_before_the_file_broke_off_is_told(check: Check) -> None:
    code, _, err = check(GOOD.replace("ann", "") + 'x,"\n')

    assert code == 2
    assert "  assignee  line 2 is empty\n" in err
    assert err.endswith("d3async: tasks.csv: line 3 opens a quote that never closes\n")


def test_a_pilot_is_counted(check: Check) -> None:
    rows = "".join(ROW.replace("0125-1", f"0125-{number}") for number in range(10))

    _, _, err = check(HEADER + rows, "--limit", "3", "--where", "assignee=ann")

    assert "  3 of them are selected\n" in err


def test_the_same_id_twice_is_invalid_whatever_the_row_says(check: Check) -> None:
    content = HEADER.replace("due", "due,key") + "".join(
        f"{cells},k1\n" for cells in (ROW.strip(), ROW.strip().replace("ann", ""), ROW.strip().replace("ann", "bob"))
    )

    code, _, err = check(content, "--id-column", "key", "--allow-duplicates")

    assert code == 3
    assert err.endswith(
        "2 problems in 2 rows:\n"
        "  assignee  line 3 is empty\n"
        '  id        2 rows like "k1" (lines 3, 4): on an earlier line already; make ids unique\n'
    )


def test_repeated_links_are_no_problem(check: Check) -> None:
    """Removing a link twice is removing it once."""
    assert check("source,linked\n1-1,1-2\n1-1,1-2\n")[0] == 0


def test_rows_are_the_same_where_run_would_take_them_for_the_same(check: Check) -> None:
    """Blanks, a default that is spelt out, and the site of the settings make no difference."""
    header = "incident,name,type,description,assignee,due,required,Site\n"
    rows = ["1-1,Call,,Ask,ann,2099-12-31 17:00:00,,", "1-1, Call ,Default,Ask,ann,2099-12-31T17:00,n,Rome"]

    assert check(header + "\n".join(rows))[0] == 0
    assert check(header + "\n".join(rows), "--site", "Rome")[0] == 3


def test_a_mixed_file_counts_its_commands(check: Check) -> None:
    lines = [
        {"command": "create-task", "incident": "1-1", "name": "n", "description": "d", "assignee": "a", "due": "2099-01-01 10:00"},
        {"command": "remove-linked-incidents", "source": "1-1", "linked": ["1-2"]},
    ]  # fmt: skip

    code, _, err = check("".join(json.dumps(line) + "\n" for line in lines), name="jobs.jsonl")

    assert code == 0
    assert err.startswith("jobs.jsonl: 2 rows, JSONL, UTF-8\n  1 CreateTask, 1 RemoveLinkedIncidents\n")


def test_a_file_can_come_from_stdin(
    check: Check, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(GOOD.replace("ann", "").encode() * 30)))

    code = exit_code_of(cli, ["check", "-"])

    assert code == 3
    assert "stdin: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--command", "Foo"], '--command "Foo" is none of CreateTask, RemoveLinkedIncidents'),
        (["--set", "assignee"], '--set "assignee" lacks its =: write it like --set "Column=Value"'),
        (["--set", "due=1", "--set", "due=2"], '--set says twice what "due" is'),
        (["--map", "=due"], '--map "=due" lacks its =: write it like --map "Column=Value"'),
        (["--time-zone", "Paris"], '--time-zone "Paris" is no time zone: they are called like Europe/Paris'),
        (["--server-time-zone", "../x"], '--server-time-zone "../x" is no time zone: they are called like Europe/Paris'),
        (["--time-zone", "UTC"], "--time-zone needs --server-time-zone: the zone that D3 takes due dates in"),
        (["--date-format", "dd/MM"], '--date-format "dd/MM" lacks the year: it is written like dd/MM/yyyy HH:mm'),
        (["--id-column", "key"], 'the header cannot be used (it has: incident, name, description, assignee, due):\n  "key" is not in the header; --id-column names one of: incident, name, description, assignee, due'),
    ],
)  # fmt: skip
def test_options_that_cannot_be_used_are_answered(check: Check, arguments: list[str], words: str) -> None:
    code, _, err = check(GOOD, *arguments)

    assert code == 2
    assert err.removeprefix("d3async: ").removeprefix("tasks.csv: ") == f"{words}\n"


def test_a_million_equal_problems_are_one_line(check: Check) -> None:
    """Here 20,000: what is told stays as short, and every one is in the file."""
    _, _, err = check("source,linked\n" + ",1-1\n" * 20_000)

    assert "  source  20,000 rows (lines 2, 3, 4 …): empty\n" in err
    assert len(Path("tasks.d3run/errors.csv").read_bytes().splitlines()) == 20_001
