"""A whole fleet on this machine: D3s, job files, a database, workers that are real processes, and ways to hurt them."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg

from benchmarks.jobs import HEADER, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

KEY = "a-key-that-no-output-may-show"
OUTCOMES = """
select state, sum(rows)::int from (
    select state, count(*) as rows from d3async_job group by state
    union all select 'pending', sum(rows) from d3async_chunk where untouched having count(*) > 0
) found group by state"""
"""Rows by state, of all runs."""


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


@dataclass
class Fleet:
    """Tenants by name with their D3s, in one database. *rate* is what their profiles say."""

    folder: Path
    database: str
    tenants: Mapping[str, str]
    rate: float = 50
    key: str = KEY
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    host: Callable[..., list[str]] | None = None
    """Makes a command line that runs Python with arguments on another host."""
    typed: Callable[..., Ran] | None = None
    """Runs a command line in this process, which takes a tenth of the time of one of its own."""

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.write_config(self.tenants)

    def write_config(self, tenants: Mapping[str, str]) -> None:
        (self.folder / "config.toml").write_text("".join(map(self._profile, tenants)))

    def _profile(self, name: str) -> str:
        return (
            f'[profiles.{name}]\nbase_url = "{self.tenants[name]}"\nusername = "svc"\nsite = "Operations"\n'
            f'rate = {self.rate}\napi_key_env = "FLEET_TEST_KEY"\n'
        )

    @property
    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("D3_")}
        return {
            **clean, "D3_FLEET_URL": self.database, "D3_CONFIG": str(self.folder / "config.toml"),
            "FLEET_TEST_KEY": self.key, "HOME": str(self.folder),
        }  # fmt: skip

    def file(self, name: str, count: int) -> Path:
        """A job file of *count* CreateTask rows, no two alike."""
        path = self.folder / f"{name}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(HEADER)
            writer.writerows(rows(count))
        return path

    def run(self, *arguments: object) -> Ran:
        """`d3async` with *arguments*, to its end."""
        if self.typed is not None:
            return self.typed(self, *arguments)
        done = subprocess.run(
            self._command(self.host, *arguments),
            env=self.environment, cwd=self.folder, capture_output=True, text=True, stdin=subprocess.DEVNULL,
            timeout=120, check=False,
        )  # fmt: skip
        return Ran(done.returncode, done.stdout, done.stderr)

    def _command(self, host: Callable[..., list[str]] | None, *arguments: object) -> list[str]:
        words = ["-m", "d3async", *map(str, arguments)]
        return host(*words) if host is not None else [sys.executable, *words]

    def worker(self, *arguments: object, host: Callable[..., list[str]] | None = None) -> subprocess.Popen[bytes]:
        """One more worker; what it says goes to a file."""
        log = (self.folder / f"worker{len(self.workers)}.log").open("wb")
        with log:
            process = subprocess.Popen(
                self._command(host, "worker", *arguments),
                env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self.workers.append(process)
        return process

    def said(self) -> str:
        """Everything the workers said."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("worker*.log")))

    def ask(self, question: str, *values: object) -> list[tuple[Any, ...]]:
        if self.host is not None:
            return self._ask_there(question, *values)
        with psycopg.connect(self.database, connect_timeout=3) as connection:
            return connection.execute(question.encode(), values).fetchall()

    def _ask_there(self, question: str, *values: object) -> list[tuple[Any, ...]]:
        asked = "import json, psycopg, sys; q, v, u = json.loads(sys.argv[1]);"
        asked += "print(json.dumps(psycopg.connect(u, connect_timeout=3).execute(q.encode(), v).fetchall()))"
        words = ["-c", asked, json.dumps([question, values, self.database])]
        command = self.host(*words) if self.host is not None else words
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise psycopg.OperationalError(done.stderr)
        return [tuple(row) for row in json.loads(done.stdout)]

    def secret_free(self) -> bool:
        """Whether no table holds the tenants' key."""
        tables = self.ask(
            "select format('%%I.%%I', schemaname, tablename) from pg_tables"
            " where schemaname not in ('pg_catalog', 'information_schema')"
        )
        return not any(
            self.ask(f"select from {table} t where t::text like %s limit 1", f"%{KEY}%") for (table,) in tables
        )

    def outcomes(self) -> dict[str, int]:
        """Rows by what is in the database."""
        return dict(self.ask(OUTCOMES))

    def done(self) -> int:
        """Rows that will not be sent any more; -1 while nobody can tell."""
        try:
            return int(self.ask("select count(*) from d3async_job where not todo")[0][0])
        except psycopg.OperationalError:
            return -1

    def wait(self, rows: int, *, seconds: float) -> None:
        """Until *rows* rows will not be sent any more."""
        until = time.monotonic() + seconds
        while (done := self.done()) < rows:
            if time.monotonic() > until:
                raise AssertionError(f"after {seconds} s only {done} of {rows} rows are done:\n{self.said()[-4000:]}")
            time.sleep(0.2 if self.host is None else 2.0)

    def wait_for(self, question: str, least: int, *, seconds: float) -> None:
        """Until the answer to *question* is at least *least*."""
        until = time.monotonic() + seconds
        while (found := int(self.ask(question)[0][0])) < least:
            if time.monotonic() > until:
                raise AssertionError(f"after {seconds} s {question} is {found}:\n{self.said()[-4000:]}")
            time.sleep(0.1)

    def wait_for_words(self, words: str, *, seconds: float) -> None:
        """Until a worker has said *words*."""
        until = time.monotonic() + seconds
        while words not in self.said():
            if time.monotonic() > until:
                raise AssertionError(f"nobody said {words!r}:\n{self.said()[-4000:]}")
            time.sleep(0.1)

    def results(self, run: str) -> list[dict[str, str]]:
        """The results of *run*, as `d3async results` streams them."""
        path = self.folder / f"{run}.results.csv"
        told = self.run("results", run, "-o", path)
        assert told.code == 0, told.err
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file))

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.run("status", "--json").out))

    def end(self) -> list[int]:
        """Ask every worker to end, and wait: their exit codes."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGCONT)
                worker.send_signal(signal.SIGTERM)
        return [worker.wait(60) for worker in self.workers]


@contextmanager
def fleet(folder: Path, database: str, tenants: Mapping[str, str], **more: Any) -> Iterator[Fleet]:
    """A fleet for the length of the block: no worker outlives it."""
    found = Fleet(folder, database, tenants, **more)
    try:
        yield found
    finally:
        for worker in found.workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()


def freeze(worker: subprocess.Popen[bytes], seconds: float) -> None:
    """Stop *worker* for *seconds*, as a machine that is suspended."""
    worker.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    worker.send_signal(signal.SIGCONT)
