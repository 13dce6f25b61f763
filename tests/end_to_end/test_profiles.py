"""One file for several D3s, over real sockets: each row reaches the D3 of its profile, and no other."""

from __future__ import annotations

import csv
import gzip
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from d3async.cli.main import cli as command_line
from d3async.cli.main import exit_code_of
from tests.end_to_end.ground import Ran, Site, rows_of, running, summary_of

HEADER = ("incident", "name", "description", "assignee", "due", "profile")
DUE = "2027-05-01 12:00:00"
VERSION_1 = Path(__file__).parents[1] / "journal" / "version_1.sqlite.gz"


class Place:
    """A folder with a config.toml, and the command line in it, without the time that starting an interpreter takes."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        self.env: dict[str, str] = {"D3_CONFIG": str(folder / "config.toml")}

    def profiles(self, **sites: Site | str | Mapping[str, Any]) -> None:
        """Write config.toml: of each profile its D3, or more of it."""
        lines: list[str] = []
        for name, site in sites.items():
            told = dict(site) if isinstance(site, Mapping) else {"base_url": site}
            url = told.pop("base_url")
            if isinstance(url, Site):
                self.env[f"KEY_{name.upper()}"] = url.url.keys.get("*") or url.url.keys["CreateTask"]
                told = {"api_key_env": f"KEY_{name.upper()}", **told}
            told = {
                "base_url": str(getattr(url, "url", url)),
                "username": "u",
                "site": f"Site {name}",
                "rate": 2000,
            } | told
            lines += [f"[profiles.{name}]", *(f"{key} = {json.dumps(value)}" for key, value in told.items() if value)]
        (self.folder / "config.toml").write_text("\n".join(lines) + "\n")

    def tasks(self, *rows: tuple[str, str, str], assignee: str = "admin user") -> None:
        """Write a file of tasks: incident, name, profile."""
        lines = [[incident, task, "Look", assignee, DUE, profile] for incident, task, profile in rows]
        self.write("tasks.csv", HEADER, *lines)

    def write(self, name: str, *lines: Sequence[str]) -> None:
        with (self.folder / name).open("w", newline="") as file:
            csv.writer(file).writerows(lines)

    def __call__(self, *args: str, env: Mapping[str, str] | None = None) -> Ran:
        with self._monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("D3_")]:
                patch.delenv(name)
            for name, value in {**self.env, **(env or {})}.items():
                patch.setenv(name, value)
            patch.chdir(self.folder)
            patch.setattr(sys, "argv", ["d3async", *args])
            code = exit_code_of(command_line, list(args))
        told = self._capsys.readouterr()
        assert "Traceback" not in told.err, told.err
        return Ran(code, told.out, told.err)

    @property
    def run(self) -> Path:
        return self.folder / "tasks.d3run"

    def outcomes(self) -> list[tuple[str, str, str]]:
        return [(row["profile"], row["_outcome"], row["_code"]) for row in rows_of(self.run / "results.csv")]

    def server(self, profile: str | None) -> dict[str, Any]:
        found: dict[str, Any] = next(one for one in summary_of(self.run)["servers"] if one["profile"] == profile)
        return found


@pytest.fixture
def here(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, capsys, monkeypatch)


@pytest.fixture
def pair() -> Iterator[tuple[Site, Site]]:
    """Two D3s that know nothing of each other, nor of each other's keys."""
    with running(rate=0, keys={"*": "key of one"}) as one, running(rate=0, keys={"*": "key of two"}) as two:
        yield one, two


def created(site: Site) -> list[str]:
    return [task.name for task in site.url.state.tasks]


def status_of(site: Site) -> dict[str, int]:
    found: dict[str, int] = site.ledger()["counts"]["by_status"]
    return found


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def test_of_four_servers_one_down_and_one_with_a_wrong_key_the_other_two_finish_within_their_limit(here: Place) -> None:
    """Once both are mended the same command sends what is left, and nothing twice."""
    here.tasks(*((f"2027-{n}", f"Task {n}", "abcd"[n % 4]) for n in range(160)))
    port = unused_port()
    with running(rate=40) as a, running(rate=0) as c, running(rate=40) as d:
        slow, down = {"rate": 40}, {"base_url": f"http://127.0.0.1:{port}/ce_site/VSOC", "api_key_env": "KEY_A"}
        here.profiles(a={"base_url": a, **slow}, b=down, c=c, d={"base_url": d, **slow})
        here.env["KEY_C"] = "wrong"
        first = here("run", "tasks.csv", "--yes")
        told = summary_of(here.run)

        assert first.code == 5, first.err
        assert here.outcomes()[:4] == [("a", "ok", ""), ("b", "unsent", ""), ("c", "unsent", ""), ("d", "ok", "")]
        assert (told["outcomes"]["ok"], told["outcomes"]["unsent"], told["input"]["rows"]) == (80, 80, 160)
        assert (told["base_url"], told["exit_code"], told["next"]) == (None, 5, None)
        assert "40 rows are left: D3 could not be reached" in told["advice"][0]
        assert "d3async doctor --profile c says more" in told["advice"][1]
        for site, one in ((a, "a"), (d, "d")):
            assert status_of(site) == {"200": 40}
            assert site.ledger()["worst_second"] <= 40
            assert here.server(one)["elapsed_s"] < here.server("b")["elapsed_s"]
        assert {one: here.server(one)["outcomes"]["ok"] for one in "abcd"} == {"a": 40, "b": 0, "c": 0, "d": 40}
        assert {one: (here.server(one)["stop"] or {}).get("code") for one in "abcd"} == {
            "a": None, "b": "unreachable", "c": "unauthorized", "d": None,
        }  # fmt: skip
        assert "Done at 2 of 4 servers. 80 ok · 80 not sent" in first.err
        assert "to mend: d3async doctor --profile c" in first.err

        here.env["KEY_C"] = here.env["KEY_A"]
        with running(rate=0, port=port) as b:
            again = here("run", "tasks.csv", "--yes")
            assert again.code == 0, again.err
            assert [len(created(site)) for site in (a, b, c, d)] == [40] * 4
    assert here.outcomes() == [("abcd"[n % 4], "ok", "") for n in range(160)]


def test_rows_without_a_profile_go_to_the_d3_of_the_run_and_no_variable_or_option_of_it_reaches_another(
    here: Place, pair: tuple[Site, Site]
) -> None:
    """A wrong key is a 401 at either; the key file on the command line is for one D3 too."""
    own, other = pair
    here.profiles(other=other)
    here.tasks(("2027-1", "own", ""), ("2027-1", "other", "other"), ("2027-2", "own too", "  "))
    (here.folder / "own.key").write_text("key of one")
    env = {**own.env, "D3_API_KEY": "wrong", "D3_USERNAME": "env user", "D3_SITE": "Env Site"}
    ran = here("run", "tasks.csv", "--yes", "--api-key-file", "own.key", "--rate", "1500", env=env)

    assert ran.code == 0, ran.err
    assert (sorted(created(own)), created(other)) == (["own", "own too"], ["other"])
    assert [{task.creator for task in site.url.state.tasks} for site in pair] == [{"env user user"}, {"u user"}]
    told = summary_of(here.run)
    assert [(one["profile"], one["site"], one["settings"]["rate"]) for one in told["servers"]] == [
        (None, "Env Site", 1500), ("other", "Site other", 1500),
    ]  # fmt: skip
    assert told["outcomes"]["ok"] == 3
    assert "3 tasks to create for 1 person in 3 incidents at 2 servers" in ran.err


def test_a_row_may_name_its_site_and_user_within_the_d3_of_its_profile(here: Place, pair: tuple[Site, Site]) -> None:
    """A site that is called like that of another profile routes nothing."""
    here.profiles(one=pair[0], two=pair[1])
    rows = [["2027-1", "x", "Look", "admin user", DUE, "one", "Site two", "me"]]
    here.write("tasks.csv", [*HEADER, "Site", "Username"], *rows)
    told = json.loads(here("run", "tasks.csv", "--dry-run").out)
    assert (told["profile"], told["body"]["Site"], told["body"]["Username"]) == ("one", "Site two", "me")
    assert here("run", "tasks.csv", "--yes").code == 0
    assert [created(site) for site in pair] == [["x"], []]


def test_rows_of_a_profile_that_cannot_be_used_are_invalid_before_anything_is_sent(
    here: Place, pair: tuple[Site, Site]
) -> None:
    here.profiles(
        vsoc=pair[0],
        apac=pair[1],
        bare={"base_url": "", "api_key_env": "KEY_VSOC"},
        keyless={"base_url": "http://127.0.0.1:9/x"},
    )
    names = ["vsoc", "vsok", "bare", "keyless", "elsewhere entirely", "apac", ""]
    here.tasks(*((f"2027-{n}", f"Task {n}", name) for n, name in enumerate(names)))
    checked, ran = here("check", "tasks.csv"), here("run", "tasks.csv", "--yes")

    for told in (checked, ran):
        assert told.code == 3
        assert 'line 3 "vsok" is no profile of' in told.err
        assert 'did you mean "vsoc"?' in told.err
        assert "bare in" in told.err
        assert "has no base_url" in told.err
        assert "has no key for CreateTask" in told.err
        assert "it has: vsoc, apac, bare, keyless; --map 'COLUMN=' leaves a column as it is" in told.err
    assert "line 8 is empty; name one, or set D3_BASE_URL, D3_USERNAME and D3_SITE for rows without" in ran.err
    assert "line 8" not in checked.err, "check needs no settings"
    assert [site.ledger()["requests"] for site in pair] == [[], []]
    assert not here.run.joinpath("journal.sqlite").exists()

    skipped = here("run", "tasks.csv", "--yes", "--skip-invalid")
    assert skipped.code == 1
    assert [one for one in here.outcomes() if one[1] != "ok"] == [
        (name, "invalid", "invalid.profile") for name in names if name not in {"vsoc", "apac"}
    ]


def test_the_column_may_be_called_otherwise_or_set_for_all_or_left_alone(here: Place, pair: tuple[Site, Site]) -> None:
    here.profiles(one=pair[0], two=pair[1])
    row = ["2027-1", "mapped", "Look", "admin user", DUE]
    here.write("tasks.csv", [*HEADER[:-1], "Mandant", "Profile"], [*row, "two", "a word of theirs"])
    ran = here("run", "tasks.csv", "--yes", "--map", "Mandant=profile", "--map", "Profile=")
    assert ran.code == 0, ran.err
    assert created(pair[1]) == ["mapped"]
    assert "Profile" in rows_of(here.run / "results.csv")[0]

    here.write("tasks.csv", HEADER[:-1], [*row[:1], "set", *row[2:]])
    ran = here("run", "tasks.csv", "--yes", "--set", "profile=one", "--fresh", "--allow-similar", "all")
    assert ran.code == 0, ran.err
    assert (created(pair[0]), created(pair[1])) == (["set"], ["mapped"])
    told = summary_of(here.run)
    assert (told["base_url"], told["site"]) == (str(pair[0].url), "Site one")


def test_without_settings_of_its_own_a_file_that_names_no_profile_says_what_is_missing(here: Place) -> None:
    here.write("tasks.csv", HEADER[:-1], ["2027-1", "x", "Look", "admin user", DUE])
    (here.folder / "tasks.jsonl").write_text('{"incident": "1"}\n')
    for name in ("tasks.csv", "tasks.jsonl"):
        ran = here("run", name, "--yes", env={"D3_CONFIG": os.devnull})
        assert ran.code == 2
        assert "D3_BASE_URL is not set" in ran.err
    assert not here.run.exists()


def test_the_same_number_at_two_d3s_is_two_incidents_and_each_d3_is_asked_about_its_own(
    here: Place,
) -> None:
    """Links: what one D3 removed or refused says nothing of the other; --verify and --against-d3 ask each its own."""
    every = {"*": "k"}
    here.write(
        "unlink.csv",
        ["source", "linked", "profile"],
        *(["2027-1", linked, profile] for profile in ("one", "two") for linked in ("2027-8", "2027-9")),
    )
    with (
        running(rate=0, keys=every, links=[("2027-1", "2027-8")], incidents=["2027-9"]) as one,
        running(rate=0, keys=every, links=[("2027-1", "2027-9")], incidents=["2027-8"]) as two,
    ):
        here.profiles(one=one, two=two)
        looked = here("check", "unlink.csv", "--against-d3")
        assert looked.code == 0, looked.err
        assert "one: line 3: 2027-1 is not linked to 2027-9" in looked.err
        assert "two: line 4: 2027-1 is not linked to 2027-8" in looked.err
        assert looked.err.count("In D3 now: 1 linked · 1 not linked") == 2

        shown = here("run", "unlink.csv", "--dry-run")
        told = [json.loads(line) for line in shown.out.splitlines()]
        assert {(one["profile"], one["url"].split("/api")[0]) for one in told} == {
            ("one", str(one.url)), ("two", str(two.url)),
        }  # fmt: skip

        ran = here("run", "unlink.csv", "--yes", "--verify")
        assert [site.ledger()["counts"]["links_removed"] for site in (one, two)] == [1, 1]
    assert ran.code == 1, ran.err
    found = [row["_outcome"] for row in rows_of(here.folder / "unlink.d3run" / "results.csv")]
    assert found == ["ok", "failed", "failed", "ok"]
    assert "one: Read back: 1 gone" in ran.err
    assert "two: Read back: 1 gone" in ran.err


def test_two_profiles_with_one_d3_and_one_key_share_its_limit(here: Place) -> None:
    """The lower of their rates, once: two limiters would send twice as much as the D3 bears."""
    with running(rate=40) as site:
        here.profiles(slow={"base_url": site, "rate": 40}, fast={"base_url": site, "rate": 400})
        here.tasks(*((f"2027-{n}", f"Task {n}", ("slow", "fast")[n % 2]) for n in range(80)))
        ran = here("run", "tasks.csv", "--yes", "--no-share-limit")
        assert ran.code == 0, ran.err
        assert status_of(site) == {"200": 80}
        assert site.ledger()["worst_second"] <= 40


def test_a_halt_rule_counts_and_stops_the_rows_of_one_d3_alone(here: Place, pair: tuple[Site, Site]) -> None:
    """Three failures at the first are three of its own, whatever the second does."""
    one, two = pair
    here.profiles(bad={"base_url": one, "concurrency": 1}, good=two)
    one.url.set_faults({"error-500-before": 1.0})
    here.tasks(*((f"2027-{n}", f"Task {n}", ("bad", "good")[n % 2]) for n in range(60)))
    ran = here("run", "tasks.csv", "--yes", "--halt", "unknown=3", "--max-attempts", "1")

    assert ran.code == 5, ran.err
    assert len(created(two)) == 30
    bad = here.server("bad")
    assert bad["stop"]["message"] == "--halt unknown=3: 3 rows unknown"
    assert 3 <= bad["outcomes"]["unknown"] < 10
    assert bad["outcomes"]["unknown"] + bad["outcomes"]["unsent"] == 30
    assert here.server("good")["stop"] is None
    assert f"bad: stopped, {bad['outcomes']['unsent']} not sent: --halt unknown=3" in ran.err


def test_a_profile_that_leads_elsewhere_than_before_is_refused_and_so_is_a_second_name_for_one_d3(
    here: Place, pair: tuple[Site, Site]
) -> None:
    """Under a new name its rows would be new, and be sent twice."""
    one, two = pair
    here.profiles(one=one)
    here.tasks(("2027-1", "x", "one"))
    assert here("run", "tasks.csv", "--yes").code == 0

    here.profiles(one={"base_url": two, "api_key_env": "KEY_ONE"})
    moved = here("run", "tasks.csv", "--yes")
    assert (moved.code, 'holds rows of the profile "one" at' in moved.err) == (2, True)

    here.profiles(uno=one)
    here.tasks(("2027-1", "x", "uno"))
    renamed = here("run", "tasks.csv", "--yes")
    assert (renamed.code, "as uno they would be sent there once more" in renamed.err) == (2, True)

    here.tasks(("2027-1", "x", ""))
    unnamed = here("run", "tasks.csv", "--yes", env=one.env)
    assert (unnamed.code, "as (no profile) they would be sent" in unnamed.err) == (2, True)
    assert (created(one), created(two)) == (["x"], [])


def test_the_same_command_again_sends_nothing_and_a_new_row_alone_is_sent(here: Place, pair: tuple[Site, Site]) -> None:
    here.profiles(one=pair[0], two=pair[1])
    rows = [("2027-1", "x", "one"), ("2027-1", "x", "two")]
    here.tasks(*rows)
    here("run", "tasks.csv", "--yes")
    again = here("run", "tasks.csv", "--yes")
    assert (again.code, "as before; 2 done, 0 to send" in again.err) == (0, True)
    here.tasks(*rows, ("2027-2", "y", "two"))
    more = here("run", "tasks.csv", "--yes")
    assert "1 new; 2 done, 1 to send" in more.err
    assert (created(pair[0]), created(pair[1])) == (["x"], ["x", "y"])
    told = summary_of(here.run)
    assert [(one["profile"], one["outcomes"]["ok"]) for one in told["servers"]] == [("one", 1), ("two", 2)]


def test_reconcile_looks_each_row_up_at_the_d3_of_its_profile_and_one_that_fails_stops_its_own_alone(
    here: Place,
) -> None:
    """Both lose the answer; the first did it, the second did not, the third lets nobody look."""

    def lost(how: str) -> Any:
        return lambda ask: how if ask.command == "CreateTask" else None

    every = {"*": "k"}
    with (
        running(rate=0, keys=every, faults=lost("drop-after")) as did,
        running(rate=0, keys=every, faults=lost("drop-before")) as did_not,
        running(
            rate=0, keys={"CreateTask": "k", "GetIncidentCommandCenterLogs": "other"}, faults=lost("drop-after")
        ) as shut,
    ):
        here.profiles(did=did, no=did_not, shut={"base_url": shut, "api_key_env": "KEY_DID"})
        here.tasks(*(("2027-1", "x", name) for name in ("shut", "did", "no")))
        ran = here("run", "tasks.csv", "--yes")
        assert (ran.code, [one[1] for one in here.outcomes()]) == (4, ["unknown"] * 3)
        looked = here("reconcile", "tasks.d3run")

    assert looked.code == 5, looked.err
    assert "3 tasks unknown; looking them up at 3 servers" in looked.err
    assert "shut: D3 does not accept the key" in looked.err
    assert [one[1:] for one in here.outcomes()] == [
        ("unknown", "connection_lost"), ("ok", "found"), ("unknown", "connection_lost"),
    ]  # fmt: skip
    assert summary_of(here.run)["reconciled"]["tasks"] == {"found": 1, "absent": 0, "open": 1}


def test_ctrl_c_stops_every_d3_and_the_same_command_goes_on(here: Place, pair: tuple[Site, Site]) -> None:
    here.profiles(one={"base_url": pair[0], "rate": 40}, two={"base_url": pair[1], "rate": 40})
    here.tasks(*((f"2027-{n}", f"Task {n}", ("one", "two")[n % 2]) for n in range(200)))
    env = {name: value for name, value in os.environ.items() if not name.startswith("D3_")} | here.env
    words = [sys.executable, "-m", "d3async", "run", "tasks.csv", "--yes"]
    with subprocess.Popen(words, cwd=here.folder, env=env, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 30
        while not all(created(site) for site in pair) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[1].decode()
    assert process.returncode == 130, said
    told = summary_of(here.run)
    assert told["outcomes"]["unknown"] == 0
    assert all(0 < one["outcomes"]["ok"] < 100 for one in told["servers"])
    assert {one["stop"]["code"] for one in told["servers"]} == {"interrupted"}

    here.profiles(one=pair[0], two=pair[1])
    assert here("run", "tasks.csv", "--yes").code == 0
    assert [len(created(site)) for site in pair] == [100, 100]


def test_status_and_report_name_the_servers_and_what_became_of_each(here: Place, pair: tuple[Site, Site]) -> None:
    here.profiles(one=pair[0], two={"base_url": pair[1], "api_key_env": "KEY_ONE"})
    here.tasks(("2027-1", "x", "one"), ("2027-1", "x", "two"))
    assert here("run", "tasks.csv", "--yes").code == 5
    status, as_json = here("status", "tasks.d3run").out, json.loads(here("status", "tasks.d3run", "--json").out)

    assert "2 rows, CreateTask at 2 servers" in status
    assert "  two at 127.0.0.1: 1 not sent; stopped: " in status
    assert "  one at 127.0.0.1: 1 ok\n" in status
    assert [(one["profile"], one["outcomes"]["ok"]) for one in as_json["servers"]] == [("one", 1), ("two", 0)]
    page = (here.run / "report.html").read_text()
    assert '<h2 id="servers">Servers</h2>' in page
    assert str(pair[1].url) in page


@pytest.mark.parametrize("count", [40, pytest.param(300, marks=pytest.mark.slow)])
def test_many_profiles_in_one_file_open_a_bounded_number_of_connections(here: Place, count: int) -> None:
    """More than are worked on at the same time: each has its turn, and no row waits for all the others."""
    with running(rate=0, latency=0.01) as site:
        here.profiles(**{f"p{n}": site for n in range(count)})
        here.env |= {f"KEY_P{n}": here.env["KEY_P0"] for n in range(count)}
        here.tasks(*((f"2027-{n}", f"Task {n}", f"p{n % count}") for n in range(count * 5)))
        ran = here("run", "tasks.csv", "--yes", "--no-share-limit")
        ledger = site.ledger()
    assert ran.code == 0, ran.err
    assert len(ledger["tasks"]) == count * 5
    assert ledger["in_flight_max"] <= 512
    assert {one["outcomes"]["ok"] for one in summary_of(here.run)["servers"]} == {5}


def test_a_run_folder_of_version_1_goes_on_where_it_was(here: Place) -> None:
    """It was written by d3async 0.1.0 before there were profiles; nothing that is done or unknown is sent again."""
    folder = here.folder / "jobs.d3run"
    folder.mkdir()
    (folder / "journal.sqlite").write_bytes(gzip.decompress(VERSION_1.read_bytes()))
    (here.folder / "jobs.csv").write_bytes(VERSION_1.with_name("version_1.csv").read_bytes())
    with running(rate=0, links=[("20231025-132", "drop-1"), ("20231025-133", "20210127-199")]) as site:
        with closing(sqlite3.connect(folder / "journal.sqlite")) as db, db:
            db.execute("update meta set value = ? where key = 'base_url'", (str(site.url),))
        assert "3 ok · 1 partial · 1 failed · 2 unknown · 2 not sent" in here("status", "jobs.d3run").out
        ran = here("run", "jobs.csv", "--yes", env={**site.env, "D3_CONFIG": os.devnull})
        asked = sorted(one["incident"] for one in site.ledger()["requests"])

    assert ran.code == 4, ran.err
    assert asked == ["20231025-132", "20231025-133", "20270101-4", "20270101-8"]
    assert [row["_outcome"] for row in rows_of(folder / "results.csv")] == [
        "ok", "ok", "unknown", "ok", "ok", "partial", "ok", "ok", "ok",
    ]  # fmt: skip
