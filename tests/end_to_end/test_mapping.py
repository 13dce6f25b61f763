"""A file as another tool writes it, over real sockets: its mapping typed once, then kept by the profile."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from d3async.cli.main import cli as command_line
from d3async.cli.main import exit_code_of
from tests.end_to_end.ground import Cli, Ran, Site

CONFIG = """\
# kept by hand
[profiles.acme]  # Paris
base_url = "{url}"
username = "Admin"        # who
site = "Security Operations"
api_key_file = "key.txt"
rate = 2000
"""
THEIRS = (
    "Nr;Betreff;Text;Bearbeiter;Bis\n20270101-1;Call;Look;admin user;01.05.2027 12:00\n"
    "20270101-2;Write;Look;admin user;02.05.2027 12:00\n"
)
TYPED = [
    f"--map={pair}" for pair in ("Nr=incident", "Betreff=name", "Text=description", "Bearbeiter=assignee", "Bis=due")
]
DATES = ["--date-format", "dd.MM.yyyy HH:mm"]
NAMED = "  mapping of profile acme: Nr = incident; Betreff = name; Text = description; Bearbeiter = assignee; Bis = due; dates dd.MM.yyyy HH:mm\n"  # noqa: E501
DONE = "tasks.csv: as before; 2 done, 0 to send"


class Desk:
    """A folder with a config.toml whose one profile leads to the sandbox, and the command line in it."""

    def __init__(
        self, folder: Path, d3: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.folder, self._d3, self._capsys, self._monkeypatch = folder, d3, capsys, monkeypatch
        self.config = folder / "config.toml"
        self.before = CONFIG.format(url=d3.env["D3_BASE_URL"])
        self.config.write_text(self.before)
        self.config.chmod(0o600)
        (folder / "key.txt").write_text(d3.env["D3_API_KEY"])
        (folder / "tasks.csv").write_text(THEIRS)

    def type(self, *words: str) -> Ran:
        """As `cli`, without the time that starting an interpreter takes."""
        arguments = [*words, "--profile", "acme"]
        with self._monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("D3_")]:
                patch.delenv(name)
            patch.setenv("D3_CONFIG", str(self.config))
            patch.chdir(self.folder)
            patch.setattr(sys, "argv", ["d3async", *arguments])
            code = exit_code_of(command_line, arguments)
        told = self._capsys.readouterr()
        return Ran(code, told.out, told.err)

    def keep(self, text: str) -> None:
        self.config.write_text(f"{self.before}\n[profiles.acme.files]\n{text}\n")

    @property
    def tasks(self) -> list[Any]:
        return list(self._d3.ledger()["tasks"])


@pytest.fixture
def desk(tmp_path: Path, d3: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, d3, capsys, monkeypatch)


def test_typed_once_checked_saved_and_from_then_on_the_profile_is_enough(desk: Desk, cli: Cli) -> None:
    env = {"D3_CONFIG": str(desk.config), "D3_PROFILE": "acme"}
    checked = cli("check", "tasks.csv", *TYPED, *DATES, "--save-mapping", env=env)
    printed = cli("run", "tasks.csv", "--dry-run", env=env)
    ran = cli("run", "tasks.csv", env=env)
    again = desk.type("run", "tasks.csv")

    assert (checked.code, printed.code, ran.code, again.code) == (0, 0, 0, 0), checked.err + ran.err
    assert checked.err.endswith("To send it: d3async run tasks.csv\n")
    assert all(NAMED in said.err for said in (printed, ran, again))
    assert '"Due Date": "2027-05-01 12:00:00"' in printed.out
    assert [(task["Task Name"], task["Assignee"], task["Due Date"]) for task in desk.tasks] == [
        ("Call", "admin user", "2027-05-01 12:00:00"),
        ("Write", "admin user", "2027-05-02 12:00:00"),
    ]
    assert DONE in again.err
    assert desk.config.read_text().startswith(desk.before)
    assert desk.config.stat().st_mode & 0o777 == 0o600


def test_a_run_saves_what_was_typed_too_and_its_own_rerun_is_no_other_run(desk: Desk) -> None:
    ran = desk.type("run", "tasks.csv", *TYPED, *DATES, "--save-mapping")
    again = desk.type("run", "tasks.csv")

    assert (ran.code, again.code) == (0, 0), ran.err + again.err
    assert "  saved in profile acme (" in ran.err
    assert DONE in again.err
    assert len(desk.tasks) == 2


def test_rows_that_are_done_are_not_sent_again_because_the_profile_says_otherwise_now(desk: Desk) -> None:
    desk.type("run", "tasks.csv", *TYPED, *DATES, "--save-mapping")
    kept = desk.config.read_text()
    desk.config.write_text(kept + 'set = ["type=Other"]\n')

    otherwise = desk.type("run", "tasks.csv")
    desk.config.write_text(kept)
    back = desk.type("run", "tasks.csv")

    assert (otherwise.code, back.code, len(desk.tasks)) == (0, 0, 2), otherwise.err
    assert "2 rows are done as they were read then; 2 done, 0 to send" in otherwise.err
    assert DONE in back.err


@pytest.mark.parametrize(
    ("first", "then", "said"),
    [
        ("", 'map = ["Elsewhere=name"]', DONE),
        ("", 'set = ["required=Yes"]', "2 rows are done as they were read then; 2 done, 0 to send"),
        ("", 'set = ["required=No"]', DONE),
        ("", 'id_column = "Nr"', DONE),
        ('set = ["required=Yes"]', "", "2 rows are done as they were read then; 2 done, 0 to send"),
    ],
    ids=["of other files", "of this file", "that says the default", "an id column", "taken away"],
)
def test_a_mapping_that_changed_sends_nothing_again_and_the_plan_says_so(
    desk: Desk, first: str, then: str, said: str
) -> None:
    desk.keep(first)
    desk.type("run", "tasks.csv", *TYPED, *DATES)
    desk.keep(then)

    again = desk.type("run", "tasks.csv", *TYPED, *DATES)

    assert (again.code, len(desk.tasks)) == (0, 2), again.err
    assert said in again.err


def test_rows_that_are_not_done_may_be_sent_by_another_mapping(desk: Desk) -> None:
    desk.keep('set = ["Username=nobody"]')
    (desk.folder / "key.txt").write_text("wrong")
    refused = desk.type("run", "tasks.csv", *TYPED, *DATES)
    (desk.folder / "key.txt").write_text("sandbox-key")
    desk.keep('set = ["type=Other"]')

    again = desk.type("run", "tasks.csv", *TYPED, *DATES)

    assert refused.code == 5
    assert again.code == 0, again.err
    assert len(desk.tasks) == 2


def test_what_is_typed_or_saved_later_sends_no_row_again_that_is_done(desk: Desk) -> None:
    desk.type("run", "tasks.csv", *TYPED, *DATES, "--save-mapping")

    typed = desk.type("run", "tasks.csv", "--set", "required=Yes")
    saved = desk.type("run", "tasks.csv", "--set", "type=Other", "--save-mapping")

    assert (typed.code, saved.code, len(desk.tasks)) == (0, 0, 2)
    assert "2 rows are done as they were read then" in typed.err
    assert "2 rows are done as they were read then" in saved.err
