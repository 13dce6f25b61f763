"""Journals made by hand, for tests of everything that is written again from one."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from d3async.files.format import Format
from d3async.journal.read import FILE
from d3async.journal.schema import TABLES, VERSION

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
        " http, attempts, sent_at, done_at, epoch, answer) values (?, ?, ?, ?, 0, ?, ?, '{}', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
