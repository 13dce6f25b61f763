"""Journals made by hand, for tests of everything that is written again from one."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from d3async.files.source import Format
from d3async.journal.sqlite.reader import FILE
from d3async.journal.sqlite.schema import TABLES, VERSION

if TYPE_CHECKING:
    from pathlib import Path

START = 1_796_144_400.0  # 2026-12-01T17:00:00Z
TASK_HEADER = ("incident", "name", "assignee", "due")
LINK_HEADER = ("source", "linked")


@dataclass(frozen=True)
class Entry:
    """One job; *items* are (name, state, code, message)."""

    raw: str
    state: str = "ok"
    code: str | None = None
    message: str | None = None
    http: int | None = 200
    attempts: int = 1
    sent_at: float | None = START
    done_at: float | None = START + 0.25
    items: tuple[tuple[str, str, str, str], ...] = ()
    answer: str | None = None
    label: str | None = "20260125-77"
    todo: int = 0
    epoch: int = 1
    vanished: bool = False
    line: int | None = None


@dataclass(frozen=True)
class Told:
    """One run."""

    facts: dict[str, Any] = field(default_factory=dict)
    started_at: float | None = START - 1
    finished_at: float | None = START + 60
    exit_code: int | None = 0


def unsent(raw: str, **more: Any) -> Entry:
    return Entry(raw, "pending", http=None, attempts=0, sent_at=None, done_at=None, **more)


def invalid(raw: str, code: str, message: str, **more: Any) -> Entry:
    return Entry(raw, "invalid", code, message, http=None, attempts=0, sent_at=None, done_at=None, label=None, **more)


def make(
    folder: Path,
    entries: list[Entry],
    *,
    form: Format | None = None,
    header: tuple[str, ...] = TASK_HEADER,
    command: str = "CreateTask",
    runs: tuple[Told, ...] = (),
    events: tuple[tuple[int, float, str, float | None, str], ...] = (),
    **meta: Any,
) -> Path:
    """Write *entries* as the journal of *folder*, and hand the folder back."""
    folder.mkdir(parents=True, exist_ok=True)
    form = form or Format("csv", header_raw=",".join(header))
    current = sum(not entry.vanished for entry in entries)
    told = {
        "schema": str(VERSION), "base_url": "https://d3.example.com/ce_site/VSOC", "site": "Security Operations",
        "command": command, "format": json.dumps(form.to_json()), "header": json.dumps(header), "input": "tasks.csv",
        "sha256": "0" * 64, "rows": str(current), "epoch": str(len(runs)),
    } | {key: value if isinstance(value, str) else json.dumps(value) for key, value in meta.items()}  # fmt: skip
    with closing(sqlite3.connect(folder / FILE)) as db, db:
        db.execute("pragma journal_mode = wal")
        db.executescript(TABLES)
        db.executemany("insert into meta values (?, ?)", told.items())
        row = 0
        for job, entry in enumerate(entries, 1):
            row += not entry.vanished
            _insert(db, job, None if entry.vanished else row, entry, command)
        db.executemany(
            "insert into run values (?, 4711, 'soc-3', ?, ?, ?, ?)",
            [
                (epoch, run.started_at, run.finished_at, run.exit_code, json.dumps(run.facts))
                for epoch, run in enumerate(runs, 1)
            ],
        )
        db.executemany("insert into event values (?, ?, ?, ?, ?)", events)
    return folder


def _insert(db: sqlite3.Connection, job: int, row: int | None, entry: Entry, command: str) -> None:
    answer = None
    if entry.answer is not None:
        answer = db.execute("insert into answer(body) values (?)", (entry.answer,)).lastrowid
    line = entry.line or (row or 0) + 1
    db.execute(
        "insert into job(id, row, line, identity, occurrence, command, label, params, raw, todo, state, code, message,"
        " http, attempts, sent_at, done_at, epoch, answer)"
        " values (?, ?, ?, ?, 0, ?, ?, '{}', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (job, row, line, job.to_bytes(8), command, entry.label, entry.raw, entry.todo, entry.state, entry.code,
         entry.message, entry.http, entry.attempts, entry.sent_at, entry.done_at, entry.epoch, answer),
    )  # fmt: skip
    db.executemany(
        "insert into item(job, pos, name, fold, state, code, message) values (?, ?, ?, ?, ?, ?, ?)",
        [
            (job, pos, name, name.casefold(), state, code, text)
            for pos, (name, state, code, text) in enumerate(entry.items)
        ],
    )


def every_outcome(folder: Path) -> Path:
    """CreateTask rows with every outcome a row can have, and one in flight."""
    return make(
        folder,
        [
            Entry("20260125-1,Call the user,admin user,2026-12-31 17:00:00", answer='{"error": ""}'),
            Entry(
                "20260125-77,=cmd|' /C calc'!A0,admin user,2026-12-31 17:00:00", "failed", "command_error",
                "Incident 20260125-77 does not exist.\nAsk your administrator.", attempts=1,
            ),
            Entry("20260125-3,Call,admin user,2026-12-31 17:00:00", "unknown", "read_timeout",
                  "no answer within 60 s: it may have happened", http=None, done_at=START + 60),
            invalid("20260125-4,Call,,2026-12-31 17:00:00", "invalid.assignee", "assignee is empty"),
            unsent('20260125-5,"Call, then ""write""",admin user,2026-12-31 17:00:00'),
            Entry("20260125-6,<script>alert(1)</script>,admin user,2026-12-31 17:00:00", "sent", http=None,
                  done_at=None, todo=1),
            Entry("20260125-9,Gone,admin user,2026-12-31 17:00:00", vanished=True),
        ],
    )  # fmt: skip


def long_run(folder: Path, rows: int = 10_000, *, rate: float = 48.0) -> Path:
    """A run of *rows* tasks at *rate* a second: failures of four kinds, 429s with a pause, the rest stopped."""
    asked = rows * 9 // 10
    entries = [_of_long_run(row, asked, rate) for row in range(1, rows + 1)]
    middle = START + asked / rate / 2
    events = [(2, middle + step / 10, "throttled", 5.0, "429") for step in range(7)]
    events += [(2, middle + 5.2, "pause", 5.2, ""), (2, START + 30, "outage", 8.0, "no connection")]
    first = Told({"requests": 12, "throttled": 0}, START - 900, START - 890, 130)
    second = Told(
        {
            "version": "0.1.0", "command_line": "d3async run tasks.csv --yes", "requests": asked, "throttled": 7,
            "paused_s": 5.2, "elapsed_s": asked / rate, "rate": rate, "exit_code": 5, "stop": "more than 3 % failed",
            "next": "d3async run tasks.csv --yes", "settings": {"rate": "50", "concurrency": "32"},
            "warnings": ["41 due dates are in the past (lines 12, 19, 22 …)"],
        },
        START, START + asked / rate, 5,
    )  # fmt: skip
    return make(folder, entries, runs=(first, second), events=tuple(events))


def _of_long_run(row: int, asked: int, rate: float) -> Entry:
    label = f"20260125-{row % 212}"
    raw = f"{label},Call the user {row},user {row % 41},2026-12-31 17:00:00"
    if row > asked:
        return unsent(raw, label=label)
    sent = START + row / rate + (5.2 if row > asked / 2 else 0)
    times = {"sent_at": sent, "done_at": sent + 0.12 + (row * 7919 % 97) ** 2 / 40_000, "label": label, "epoch": 2}
    if row % 211 == 0:
        return Entry(raw, "unknown", "read_timeout", "no answer within 60 s", http=None, **times)
    if row % 53 == 0:
        return Entry(raw, "failed", "command_error", f"Incident {label} does not exist.", **times)
    if row % 97 == 0:
        return Entry(raw, "failed", "command_error", "Assignee <script>alert('d3')</script> is not a user", **times)
    if row == 801:
        return invalid(raw, "invalid.assignee", "assignee is empty")
    return Entry(raw, **times)
