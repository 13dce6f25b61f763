"""A run whose folder is moved goes on there; one whose folder is deleted or replaced ends at once, and says so."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from d3async import CreateTask, D3Client, Settings, sandbox
from d3async.errors import FolderGoneError
from tests.end_to_end.ground import Cli, Site, rows_of, running, summary_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROWS = 400
HEADER = "incident,name,description,assignee,due\n"


def write(path: Path, rows: int = ROWS) -> None:
    tasks = (f"20220125-1,Task {n},Look at it,admin user,2027-05-01 12:00:00\n" for n in range(1, rows + 1))
    path.write_text(HEADER + "".join(tasks))


@contextmanager
def started(here: Path, site: Site, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`d3async run t.csv` under way, at 40 requests a second."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("D3_")}
    env |= {"D3_CONFIG": os.devnull, "D3_RATE": "40", "TMPDIR": str(here / "tmp"), **site.env}
    (here / "tmp").mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "d3async", "run", "t.csv", *arguments],
        env=env, cwd=here, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(seen: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.02)


def created(site: Site) -> list[str]:
    return [task["Task Name"] for task in site.ledger()["tasks"]]


def most(site: Site) -> int:
    return max(Counter(created(site)).values())


def replaced(folder: Path) -> None:
    """Somebody restores an older state of the folder."""
    shutil.rmtree(folder)
    folder.mkdir()
    with closing(sqlite3.connect(folder / "journal.sqlite")) as db, db:
        db.execute("create table theirs(x)")


def without_journal(folder: Path) -> None:
    for path in folder.glob("journal.sqlite*"):
        path.unlink()


def journal_moved_out(folder: Path) -> None:
    (folder / "journal.sqlite").rename(folder.parent / "elsewhere.sqlite")


@pytest.mark.parametrize("loss", [shutil.rmtree, replaced, without_journal, journal_moved_out])
def test_a_folder_that_is_gone_ends_the_run_and_nothing_is_lost(
    cli: Cli, tmp_path: Path, loss: Callable[[Path], None]
) -> None:
    write(tmp_path / "t.csv")
    home = tmp_path / "t.d3run"
    with running(rate=None) as site:
        with started(tmp_path, site) as process:
            until(lambda: len(created(site)) > 20)
            loss(home)
            before = len(created(site))
            _, err = process.communicate(timeout=60)
            assert process.returncode == 5, err
            # about a second at 40 a second; a machine that is busy sends no more in it
            assert len(created(site)) - before < 80
        saved = Path(re.search(r"saved in (\S+);", err)[1])  # type: ignore[index]
        assert saved.parent == tmp_path / "tmp"
        assert re.search(r"this run has sent lines 2-\d+", err)
        assert not re.search(r"d3async run|same command|Make room", err)
        assert "back to t.d3run first" in err
        ok = [row for row in rows_of(saved / "results.csv") if row["_outcome"] == "ok"]
        maybe = [row for row in rows_of(saved / "results.csv") if row["_outcome"] == "unknown"]
        assert {row["name"] for row in ok} <= set(created(site)) <= {row["name"] for row in ok + maybe}
        told = json.loads(cli("status", saved, "--json").out)
        assert told["next"] == []
        if loss is replaced:
            with closing(sqlite3.connect(home / "journal.sqlite")) as db:
                assert db.execute("select name from sqlite_schema").fetchall() == [("theirs",)]

        shutil.rmtree(home, ignore_errors=True)
        shutil.move(saved, home)
        assert json.loads(cli("status", home, "--json").out)["next"][0] == "d3async run t.csv --continue"
        again = cli("run", "t.csv", "--continue", env=site.env)
        assert again.code in {0, 4}
        assert most(site) == 1
        assert len(created(site)) >= ROWS - len(maybe)


def test_a_folder_that_is_moved_takes_the_run_along(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", 120)
    with running(rate=None) as site:
        with started(tmp_path, site, "--limit", "100") as process:
            until(lambda: len(created(site)) > 20)
            (tmp_path / "t.d3run").rename(tmp_path / "moved")
            _, err = process.communicate(timeout=60)
            assert process.returncode == 0 or "20 not sent" in err, err
        assert f"the run folder is now {tmp_path}/moved" in err
        assert f"results   {tmp_path}/moved/results.csv" in err
        assert f"d3async run t.csv -o {tmp_path}/moved --continue" in err
        assert not (tmp_path / "t.d3run").exists()
        assert sorted(path.name for path in (tmp_path / "moved").glob("journal*")) == ["journal.sqlite"]
        assert summary_of(tmp_path / "moved")["outcomes"]["ok"] == 100
        assert cli("run", "t.csv", "-o", "moved", "--continue", env=site.env).code == 0
        assert len(created(site)) == 120
        assert most(site) == 1


def test_a_folder_that_was_moved_and_replaced_is_followed_and_the_other_one_is_left_alone(
    cli: Cli, tmp_path: Path
) -> None:
    write(tmp_path / "t.csv", 100)
    home = tmp_path / "t.d3run"
    with running(rate=None) as site:
        with started(tmp_path, site) as process:
            until(lambda: len(created(site)) > 20)
            home.rename(tmp_path / "moved")
            home.mkdir()
            (home / "journal.sqlite").write_bytes(b"theirs")
            (home / ".lock").touch()
            (home / "journal.sqlite-wal").write_bytes(b"theirs too")
            (home / "journal.sqlite-shm").write_bytes(b"theirs too")
            _, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
        assert summary_of(tmp_path / "moved")["outcomes"]["ok"] == 100
        left = sorted(path.name for path in home.iterdir())
        assert left == [".lock", "journal.sqlite", "journal.sqlite-shm", "journal.sqlite-wal"]


@pytest.mark.parametrize(
    ("faults", "arguments"),
    [
        pytest.param(["hang"], (), id="no answer comes"),
        pytest.param(None, ("--rate", "0.02"), id="the next request is due in a minute"),
    ],
)
def test_a_run_that_waits_notices_that_its_folder_is_gone(
    tmp_path: Path, faults: list[str] | None, arguments: tuple[str, ...]
) -> None:
    write(tmp_path / "t.csv")
    with running(rate=None, faults=faults) as site:
        with started(tmp_path, site, *arguments) as process:
            until(lambda: len(created(site)) >= 1)
            shutil.rmtree(tmp_path / "t.d3run")
            _, err = process.communicate(timeout=20)
        assert process.returncode == 5, err
        assert len(created(site)) < ROWS


@pytest.mark.asyncio
async def test_the_library_raises_and_names_where_it_was_saved(tmp_path: Path) -> None:
    same = {"incident": "20220125-1", "description": "x", "assignee": "admin user", "due": "2027-05-01 12:00:00"}
    jobs = [CreateTask(name=f"Task {n}", **same) for n in range(300)]
    async with sandbox.serve(rate=None) as url, D3Client(Settings.from_env(url.env, rate=40)) as d3:
        seen = 0
        with pytest.raises(FolderGoneError, match=r"saved in .*sent lines 1-\d+"):  # noqa: PT012 - a loop
            async for _ in d3.run(jobs, journal=tmp_path / "j"):
                seen += 1
                if seen == 10:
                    shutil.rmtree(tmp_path / "j")
        assert len(url.ledger()["tasks"]) < 300
