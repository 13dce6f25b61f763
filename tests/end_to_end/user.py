"""A user at a terminal: types commands, edits files, is hit by faults; what must hold is checked after each command."""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tests.end_to_end.ground import rows_of
from tests.end_to_end.job_files import JobFile, mend_feedback
from tests.end_to_end.typist import suggested

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.end_to_end.fork_server import Commands
    from tests.end_to_end.ground import Site

FAULTS = (
    "error-500-before", "error-500-after", "error-429-before", "error-401-before", "error-400-before",
    "drop-before", "drop-after", "hang", "hang-before", "cut-body", "html-200",
)  # fmt: skip
EVENTS = ("kill before", "kill after", "terminate", "move the folder", "delete the folder")
"""What happens when a request is at D3, and what becomes of the request."""
CODES = frozenset({0, 1, 2, 3, 4, 5, 6, 130, 143})
_OUTCOMES = {"ok", "partial", "failed", "unknown", "invalid", "unsent"}
_RESULTS = re.compile(r"^results +(\S+results\.csv)", re.MULTILINE)
MOST_TYPED = 8
"""Suggested commands that are typed one after the other: more of them are a loop."""


@dataclass
class User:
    """*home* is the user's folder, *file* the job file he works on. *allowed*: how often each task may exist."""

    commands: Commands
    site: Site
    home: Path
    file: JobFile
    screen: str = ""
    typed: list[str] = field(default_factory=list)
    allowed: Counter[str] = field(default_factory=Counter)
    places: dict[str, Path] = field(default_factory=dict)
    keys: dict[Path, list[str]] = field(default_factory=dict)
    settled: bool = False
    elsewhere: bool = False
    """Rows may have been sent from a folder that is not the file's: its results need not know."""

    @property
    def folder(self) -> Path:
        """The run folder of the present file."""
        return self.places.get(self.file.path.name, self.file.path.with_suffix(".d3run"))

    def type(self, *words: object, script: Sequence[str | None] = ()) -> int:
        """Type a command while *script* happens, one thing a request; check what it did."""
        told = [str(word) for word in words]
        self.typed.append(f"{' '.join(told)}  # {[thing for thing in script if thing]}")
        self._plan(script)
        env = {name: value for name, value in os.environ.items() if not name.startswith("D3_")}
        env |= {"D3_CONFIG": os.devnull, "D3_RATE": "2000", "XDG_STATE_HOME": str(self.home / "state")}
        env |= {"TMPDIR": str(self.home / "tmp"), **self.site.env}
        code, out, err = self.commands.run(told, env=env, folder=self.home, started=self._started)
        self.site.url.set_faults(None)
        self.screen = err + out
        self._check(told, code)
        if code == -signal.SIGKILL and self.has_run():
            self.status()
        return code

    def status(self) -> None:
        """Look at what the run folder says."""
        self.type("status", self.folder.name)

    def has_run(self) -> bool:
        """Whether the file has a run folder."""
        return (self.folder / "journal.sqlite").exists()

    def _plan(self, script: Sequence[str | None]) -> None:
        left = iter(script)
        self._pid, self._is_started = 0, threading.Event()

        def fault(_: Any) -> str | None:
            thing = next(left, None)
            return self._happens(thing) if thing in EVENTS else thing

        self.site.url.set_faults(fault)

    def _started(self, pid: int) -> None:
        self._pid = pid
        self._is_started.set()

    def _happens(self, event: str | None) -> str | None:
        """Do it, as the request arrives at D3; the fault that the request meets."""
        if event == "move the folder":
            self.move_folder()
        elif event == "delete the folder":
            self.delete_folder()
        elif self._is_started.wait(20):
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM if event == "terminate" else signal.SIGKILL)
        return {"kill before": "drop-before", "kill after": "drop-after"}.get(event or "")

    def move_folder(self) -> None:
        if not self.folder.exists():
            return
        place = self.home / f"moved-{len(self.places)}"
        self.folder.rename(place)
        self.places[self.file.path.name] = place

    def delete_folder(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.places.pop(self.file.path.name, None)
        self.elsewhere = True

    def run(self, *options: object, script: Sequence[str | None] = ()) -> int:
        """Run the file. After a move he names the folder's new place."""
        moved = self.places.get(self.file.path.name)
        place = ("-o", moved.name) if moved is not None else ()
        return self.type("run", self.file.path.name, *place, *self.file.options(), *options, *_quick(script),
                         script=script)  # fmt: skip

    def means(self, *options: object, script: Sequence[str | None] = ()) -> None:
        """Run the file with options that say that tasks may exist once more."""
        before = self.created()
        for name, count in Counter(row.name for row in self.file.written).items():
            self.allowed[name] = max(self.allowed[name] or 1, before[name] + count)
        self.run(*options, script=script)

    def means_copies(self, *options: object, script: Sequence[str | None] = ()) -> None:
        """Run the file with identical rows that are meant."""
        first = self.file.rows[0].name
        self.allowed[first] = max(self.allowed[first] or 1, self.created()[first] + 1 + self.file.copies)
        self.run("--allow-duplicates", "--yes", *options, script=script)

    def retry_unknown(self, script: Sequence[str | None] = ()) -> None:
        """Have unknown rows sent again."""
        self._once_more(self.unknown())
        self.run("--retry-unknown", "--yes", script=script)

    def settle(self, verdict: str) -> None:
        """Say what became of the unknown rows."""
        rows = self.unknown()
        if rows:
            if verdict == "failed":
                self._once_more(rows)
            self.settled = True
            self.type("settle", self.folder.name, verdict, *(row["_row"] for row in rows))

    def unknown(self) -> list[dict[str, str]]:
        """Rows that may have happened."""
        path = self.folder / "results.csv"
        return [row for row in rows_of(path) if row["_outcome"] == "unknown"] if path.exists() else []

    def _once_more(self, rows: Sequence[dict[str, str]]) -> None:
        before = self.created()
        for row in rows:
            name = f"Task {row['key'].removeprefix('k')}"
            self.allowed[name] = max(self.allowed[name] or 1, before[name] + 1)

    def feedback_files(self) -> list[Path]:
        return sorted(self.folder.glob("failed*.csv")) if self.folder.exists() else []

    def mend_feedback(self, *, thin: bool, turn: bool, script: Sequence[str | None] = ()) -> None:
        """Mend the newest feedback file and run it."""
        newest = max(self.feedback_files(), key=lambda path: (len(path.name), path.name))
        mend_feedback(newest, thin=thin, turn=turn)
        self.type("run", newest.relative_to(self.home), *_quick(script), script=script)

    def save_as(self, name: str) -> None:
        """Go on with a copy of the file."""
        self.file = replace(self.file, path=self.home / name)
        self.file.save()
        self.elsewhere = True

    def edit(self, file: JobFile) -> None:
        self.file = file
        file.save()

    def obeys(self) -> None:
        """Type what is suggested until nothing is."""
        count = 0
        while commands := suggested(self.screen):
            count += 1
            assert count <= MOST_TYPED, self.story()
            self.type(*commands[0])

    def created(self) -> Counter[str]:
        return Counter(task["Task Name"] for task in self.site.ledger()["tasks"])

    def story(self) -> str:
        return "\n".join([*self.typed, self.screen])

    def _check(self, words: list[str], code: int) -> None:
        assert "Traceback" not in self.screen, self.story()
        assert code in CODES or (code == -signal.SIGKILL and "kill" in self.typed[-1]), (code, self.story())
        many = {name: count for name, count in self.created().items() if count > (self.allowed[name] or 1)}
        assert not many, (many, self.story())
        suggested(self.screen)
        if words[0] == "run" and "_row" not in words and (written := _RESULTS.search(self.screen)):
            self._check_results(words[1], self.home / written[1], code)

    def _check_results(self, name: str, path: Path, code: int) -> None:
        """No row is lost: each has one outcome, which does not contradict what was created."""
        rows = rows_of(path)
        assert {row["_outcome"] for row in rows} <= _OUTCOMES, self.story()
        if name == self.file.path.name:
            expected = [f"k{row.number}" for row in self.file.written]
            assert [row["key"] for row in rows] == expected, self.story()
            self.keys[path] = expected
        elif path in self.keys:
            assert [row["key"] for row in rows] == self.keys[path], self.story()
        if code == 0:
            assert {row["_outcome"] for row in rows} <= {"ok", "unsent"}, self.story()
        if not (self.elsewhere or self.settled or "linked" in rows[0]):
            self._check_created(rows)

    def _check_created(self, rows: list[dict[str, str]]) -> None:
        created = self.created()
        for row in rows:
            if row["_outcome"] == "ok":
                assert created[row["name"]], (row, self.story())
            elif row["_outcome"] in {"failed", "unsent"}:
                assert created[row["name"]] < (self.allowed[row["name"]] or 1), (row, self.story())


def _quick(script: Sequence[str | None]) -> list[str]:
    """Options that make faults cheap."""
    waits = ["--timeout", "0.3s"] if {"hang", "hang-before"} & set(script) else []
    pace = ["--concurrency", "1"] if set(EVENTS) & set(script) else []
    return [*waits, *pace, "--max-attempts", "2", "--drain-timeout", "2s"]
