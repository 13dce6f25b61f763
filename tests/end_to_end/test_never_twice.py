"""The ways in which a user who did what was printed, or what comes next to mind, once got tasks twice.

Each has its tests here or where its subject is:

1. `--fresh` suggests itself: here; `test_suggestions`: `test_a_fresh_run_never_suggests_another_fresh_one`,
   `test_a_d3_that_is_away_costs_no_row`.
2. A mended failed.csv that its run does not know of:
   `test_feedback`: `test_a_row_mended_in_failed_csv_is_done_for_the_file_it_came_from`; `test_feedback_again`.
3. An option added or forgotten, a file saved again by a spreadsheet: `test_read_otherwise`; `test_look_alikes`:
   `test_a_file_saved_again_by_a_spreadsheet_sends_nothing_twice`,
   `test_leading_zeros_that_a_spreadsheet_dropped_are_seen`.
4. A run folder that is moved or deleted during a run: here; `test_folder_goes_away`.
5. A later version that adds a field with a default: here; `journal/test_profiles` and `journal/postgres/test_released`
   for journals of earlier versions.
6. A run folder of a killed run of another host: `cli/test_status`:
   `test_whether_a_run_goes_on_is_seen_by_the_lock_on_whatever_host_it_is`.
7. Suggestions without end: `test_suggestions`: `test_a_pilot_goes_on_with_the_rest_and_then_ends`,
   `test_rows_that_are_only_invalid_suggest_no_command`, `test_links_that_are_not_there_suggest_nothing`;
   `test_obedient_user`.
8. A copy of a run folder: `test_look_alikes`: `test_a_copy_of_a_run_folder_knows_what_the_other_one_sent`. Of a fleet's
   database that was restored or copied: the tests of the fleet.
9. Unknown rows and no key for D3's log: `test_settle`.
10. A journal that others changed: `test_changed_journal`; `test_suggestions`:
    `test_a_journal_that_was_handed_over_cannot_say_what_to_type`.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import d3async
from tests.end_to_end.fork_server import Commands
from tests.end_to_end.ground import Cli, Site, running, summary_of
from tests.end_to_end.job_files import JobFile, TaskRow
from tests.end_to_end.test_suggestions import follow
from tests.end_to_end.typist import suggested
from tests.end_to_end.user import User

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER = "incident,name,description,assignee,due\n"


def task(name: str) -> str:
    return f"20220125-1,{name},Look at it,admin user,2027-05-01 12:00:00\n"


def names(d3: Site) -> list[str]:
    return sorted(task["Task Name"] for task in d3.ledger()["tasks"])


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    """A user with a file of six tasks, none of them sent."""
    (tmp_path / "tmp").mkdir()
    with running(rate=None) as site, Commands() as commands:
        file = JobFile(tmp_path / "t.csv", tuple(map(TaskRow, range(1, 7))))
        file.save()
        yield User(commands, site, tmp_path, file)


def test_a_fresh_run_that_is_terminated_goes_on_without_fresh(user: User) -> None:
    user.run("--limit", "1")
    user.means("--fresh", "--allow-similar", "all", script=[None, "terminate"])

    [words] = suggested(user.screen)
    assert (words[:2], words[-1]) == (["run", "t.csv"], "--continue")
    told = summary_of(user.folder)["next"]
    assert "--fresh" not in str(told)
    assert "--fresh" not in (user.folder / "report.html").read_text()
    user.obeys()
    assert user.created() == {"Task 1": 2, **{f"Task {n}": 1 for n in range(2, 7)}}


@pytest.mark.parametrize("event", ["kill before", "kill after", "terminate", "move the folder"])
def test_whatever_ends_a_run_the_suggested_command_sends_the_rest_once(user: User, event: str) -> None:
    user.run(script=[None, None, event])
    user.obeys()

    created = user.created()
    assert set(created.values()) == {1}
    unknown = {f"Task {row['key'].removeprefix('k')}" for row in user.unknown()}
    assert {f"Task {n}" for n in range(1, 7)} - set(created) <= unknown


def test_a_folder_deleted_during_a_run_leaves_no_command_that_sends(user: User) -> None:
    user.run(script=[None, None, "delete the folder"])

    assert suggested(user.screen) == []
    sent = user.created()
    assert user.run() == 2, "they look like rows that were sent before"
    assert user.created() == sent


def test_once_the_folder_is_deleted_only_what_was_on_its_way_is_sent(cli: Cli, tmp_path: Path) -> None:
    """Counted, not timed: the folder is gone before the fifth request is answered, with four in flight at most."""
    (tmp_path / "t.csv").write_text(HEADER + "".join(task(f"Task {n}") for n in range(1, 301)))
    asked = 0

    def deleting(_: Any) -> None:
        nonlocal asked
        asked += 1
        if asked == 5:
            shutil.rmtree(tmp_path / "t.d3run")

    with running(rate=None, faults=deleting) as site:
        ran = cli("run", "t.csv", "--concurrency", "4", env=site.env)

        assert ran.code == 5, ran.err
        assert 5 <= len(names(site)) <= 12


def later(folder: Path) -> None:
    """A later version in *folder*, where `python -m d3async` finds it first: CreateTask has one field more."""
    package = Path(d3async.__file__).parent
    shutil.copytree(package, folder / "d3async", ignore=shutil.ignore_patterns("__pycache__"))
    command = folder / "d3async" / "d3" / "commands" / "create_task.py"
    text = command.read_text(encoding="utf-8")
    last = '    required: YesNo = Field("No", alias="Required")\n'
    assert last in text
    command.write_text(text.replace(last, f'{last}    priority: Text = Field("Medium", alias="Priority")\n'))


@pytest.mark.parametrize("options", [(), ("--id-column", "note")], ids=["by meaning", "by id"])
def test_a_field_that_a_later_version_adds_sends_no_row_again(
    d3: Site, cli: Cli, tmp_path: Path, options: tuple[str, ...]
) -> None:
    rows = [task(name).replace("\n", f",{name}\n") for name in "abc"]
    header = HEADER.replace("\n", ",note\n")
    (tmp_path / "t.csv").write_text(header + "".join(rows))
    assert cli("run", "t.csv", *options, env=d3.env).code == 0
    later(tmp_path)

    same = cli("run", "t.csv", *options, env=d3.env)
    # saved by another program: each row's own text is another one, what it asks for is the same
    saved = [row.replace(",", ";") for row in (header, *rows, task("d").replace("\n", ",d\n"))]
    (tmp_path / "t.csv").write_text("".join(saved))
    more = cli("run", "t.csv", *options, env=d3.env)

    assert (same.code, more.code) == (0, 0), same.err + more.err
    assert "3 done, 0 to send" in same.err
    assert names(d3) == ["a", "b", "c", "d"]
    assert summary_of(tmp_path / "t.d3run")["outcomes"]["ok"] == 4


def test_the_later_version_sends_its_field(d3: Site, cli: Cli, tmp_path: Path) -> None:
    """Else the test above would show nothing."""
    later(tmp_path)
    (tmp_path / "t.csv").write_text(HEADER + task("a"))
    assert '"Priority": "Medium"' in cli("run", "t.csv", "--dry-run", env=d3.env).out


def test_both_ways_of_going_on_send_a_row_once(d3: Site, cli: Cli, tmp_path: Path) -> None:
    """Its feedback file, then its own file, then what is suggested."""
    (tmp_path / "t.csv").write_text(HEADER + task("a") + task("b").replace("20220125", "19000101"))
    assert cli("run", "t.csv", env=d3.env).code == 1
    failed = tmp_path / "t.d3run" / "failed.csv"
    failed.write_text(failed.read_text().replace("19000101", "20220125"))
    assert cli("run", "t.d3run/failed.csv", env=d3.env).code == 0
    follow(cli, d3, cli("run", "t.csv", env=d3.env))
    assert names(d3) == ["a", "b"]
