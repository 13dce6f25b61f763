"""How a run shows itself while it goes on: a bar on a terminal, plain lines elsewhere, JSON for programs."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from d3async.cli.console import clean, say
from d3async.engine.observers import _NAMED, together
from d3async.policy.outcome import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from d3async.engine.observers import ServerProgress
    from d3async.journal.model import RowOutcome
    from d3async.operations.observer import Progress
    from d3async.ratelimit.limiter import LimiterNumbers


def why_not_faster(at: Sequence[ServerProgress]) -> str:
    """`lost` of each server that has something to say, by its name where there are several."""
    said = [f"{server.name}: {why}" if server.name else why for server in at if (why := lost(server.numbers))]
    more = [f"and {len(said) - _NAMED} more"] if len(said) > _NAMED else []
    return "; ".join(said[:_NAMED] + more)


def lost(numbers: LimiterNumbers) -> str:
    """Why it is not faster, in a few words; empty when nothing holds it up."""
    if numbers.outages:
        return f"D3 does not answer, trying again in {max(0.0, numbers.opens_in):.0f} s"
    if numbers.opens_in >= 1:
        return f"D3 says wait: {numbers.opens_in:.0f} s"
    return f"429s {numbers.throttled:,}" if numbers.throttled else ""


def left_at(server: ServerProgress) -> float:
    """Seconds until *server* is done, by its limit alone."""
    numbers = server.numbers
    return (server.rows - server.done) / numbers.rate + numbers.opens_in if numbers.rate > 0 else 0.0


def limits(numbers: LimiterNumbers) -> dict[str, object]:
    """What `--progress json` says of a limiter."""
    return {
        "rate": round(numbers.rate, 2),
        "learnt": numbers.learnt,
        "throttled": numbers.throttled,
        "paused_s": round(numbers.paused_s, 3),
        "in_flight": numbers.in_flight,
    }


def seen(server: ServerProgress) -> dict[str, object]:
    """What `--progress json` says of one server of several."""
    return {"name": server.name, "done": server.done, "rows": server.rows, **limits(server.numbers)}


_PLAIN_EVERY = 10.0
_JSON_EVERY = 1.0
_FILE_EVERY = 0.5
_MESSAGES = 5


class ProgressCounts:
    """Counts of finished rows, and the recent speed, to be shown."""

    def __init__(self, rows: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.rows = rows
        self.counts: Counter[str] = Counter()
        self.started = clock()
        self._clock = clock

    @property
    def done(self) -> int:
        """Rows finished."""
        return self.counts.total()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock() - self.started

    def left(self, at: Sequence[ServerProgress], waiting: int) -> float | None:
        """Seconds still to go: by the limits, or by the pace so far where that is slower; None when it is not known."""
        remaining = sum(server.rows - server.done for server in at) + waiting
        if remaining <= 0:
            return 0.0
        rate = sum(server.numbers.rate for server in at)
        pace = self.done / self.elapsed if self.elapsed > 0 else 0.0
        speed = min(pace, rate) if self.elapsed > 3 and pace > 0 else rate  # noqa: PLR2004 - a pace of 3 s is one
        if speed <= 0:
            return None
        all_of_it = remaining / speed + min(server.numbers.opens_in for server in at)
        return max(all_of_it, *map(left_at, at))

    def words(self) -> str:
        """`ok 2,371 · failed 9`."""
        return " · ".join(f"{name} {self.counts[name]:,}" for name in OUTCOMES if name == "ok" or self.counts[name])


def clock_text(seconds: float | None) -> str:
    """`0:01:05`, or `-:--:--`."""
    if seconds is None:
        return "-:--:--"
    whole = int(seconds + 0.5)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


class NoProgress:
    """Shows nothing but what has to be said."""

    def row(self, row: RowOutcome) -> None:
        """Nothing."""

    def tick(self, at: Sequence[ServerProgress], waiting: int) -> None:
        """Nothing."""

    def tell(self, text: str) -> None:
        """Say *text*."""
        say(text)

    def close(self) -> None:
        """Nothing."""


class TextProgress(NoProgress):
    """One line every ten seconds."""

    def __init__(self, rows: int) -> None:
        self._tally = ProgressCounts(rows)
        self._next = _PLAIN_EVERY

    def row(self, row: RowOutcome) -> None:
        """Count it."""
        self._tally.counts[row.outcome] += 1

    def tick(self, at: Sequence[ServerProgress], waiting: int) -> None:
        """Say a line when it is time."""
        tally = self._tally
        if tally.elapsed < self._next:
            return
        self._next += _PLAIN_EVERY
        why = why_not_faster(at)
        say(
            f"{tally.done:,}/{tally.rows:,}  {tally.words()}  {tally.done / tally.elapsed:.1f}/s"
            f"  left {clock_text(tally.left(at, waiting))}" + (f"  {why}" if why else "")
        )


class JsonProgress(NoProgress):
    """One JSON object a line on stderr: `{"event": "progress", …}` every second, `{"event": "message", …}`."""

    def __init__(self, rows: int) -> None:
        self._tally = ProgressCounts(rows)
        self._next = _JSON_EVERY

    def row(self, row: RowOutcome) -> None:
        """Count it, and report a row that is not ok."""
        self._tally.counts[row.outcome] += 1
        if row.outcome != "ok":
            self._event("row", row=row.row, outcome=row.outcome, code=row.code, message=row.message)

    def tick(self, at: Sequence[ServerProgress], waiting: int) -> None:
        """Report when it is time."""
        if at and self._tally.elapsed >= self._next:
            self._next = self._tally.elapsed + _JSON_EVERY
            self._report(at, waiting)

    def _report(self, at: Sequence[ServerProgress], waiting: int) -> None:
        numbers = together([server.numbers for server in at])
        several = {"servers": [seen(server) for server in at], "waiting": waiting} if at[0].name else {}
        self._event(
            "progress",
            done=self._tally.done,
            rows=self._tally.rows,
            outcomes=dict(self._tally.counts),
            elapsed_s=round(self._tally.elapsed, 3),
            left_s=self._tally.left(at, waiting),
            **(limits(numbers) if numbers else {}),
            **several,
        )

    def tell(self, text: str) -> None:
        """Report *text*."""
        self._event("message", text=text)

    @staticmethod
    def _event(kind: str, **facts: object) -> None:
        say(json.dumps({"event": kind, **facts}))


class FileProgress:
    """Another progress, whose newest state is also in the file *path*, which is replaced at once, and goes at the end.

    A page shows it: what makes it wait now is in `why`.
    """

    def __init__(self, shown: Progress, rows: int, path: Path) -> None:
        self._shown = shown
        self._tally = ProgressCounts(rows)
        self._path = path
        self._next = 0.0
        self._messages: list[str] = []
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._write([], rows)

    def row(self, row: RowOutcome) -> None:
        """Count it."""
        self._tally.counts[row.outcome] += 1
        self._shown.row(row)

    def tick(self, at: Sequence[ServerProgress], waiting: int) -> None:
        """Write the file when it is time."""
        self._shown.tick(at, waiting)
        if self._tally.elapsed >= self._next:
            self._next = self._tally.elapsed + _FILE_EVERY
            self._write(at, waiting)

    def tell(self, text: str) -> None:
        """Keep the last few texts."""
        self._messages = [*self._messages, text][-_MESSAGES:]
        self._shown.tell(text)

    def close(self) -> None:
        """Remove the file."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        self._shown.close()

    def _write(self, at: Sequence[ServerProgress], waiting: int) -> None:
        tally, numbers = self._tally, together([server.numbers for server in at])
        state = {
            "done": tally.done,
            "rows": tally.rows,
            "outcomes": dict(tally.counts),
            "elapsed_s": round(tally.elapsed, 1),
            "left_s": tally.left(at, waiting) if at else None,
            "ceiling": numbers.ceiling if numbers else None,
            "in_flight": numbers.in_flight if numbers else 0,
            "why": why_not_faster(at),
            "messages": self._messages,
        }
        aside = self._path.with_suffix(".part")
        with suppress(OSError):  # a full disk costs the page its numbers, and no row
            aside.write_text(json.dumps(state), "utf-8")
            aside.replace(self._path)


class BarProgress(NoProgress):
    """rich's bar: done of all, outcomes, rate against the limit, time left, and what holds it up."""

    def __init__(self, rows: int) -> None:
        self._tally = ProgressCounts(rows)
        self._bar, self._task = _rich_bar(rows)
        self._recent: list[tuple[float, int]] = []

    def row(self, row: RowOutcome) -> None:
        """Count it."""
        self._tally.counts[row.outcome] += 1

    def tick(self, at: Sequence[ServerProgress], waiting: int) -> None:
        """Draw anew."""
        numbers = together([server.numbers for server in at])
        ceiling = f" of {numbers.ceiling:g}" if numbers and numbers.ceiling else ""
        several = f" at {len(at)} servers" if len(at) > 1 else ""
        self._bar.update(
            self._task,
            completed=self._tally.done,
            counts=self._tally.words(),
            rate=f"{self._pace():.1f}/s{ceiling}{several}",
            left=clock_text(self._tally.left(at, waiting)),
            why=why_not_faster(at),
            refresh=True,
        )

    def _pace(self) -> float:
        """Rows a second over the last five seconds."""
        now, done = self._tally.elapsed, self._tally.done
        self._recent.append((now, done))
        while len(self._recent) > 2 and now - self._recent[0][0] > 5:  # noqa: PLR2004 - a window of 5 s, two points
            self._recent.pop(0)
        since, had = self._recent[0]
        return (done - had) / (now - since) if now > since else 0.0

    def tell(self, text: str) -> None:
        """Say *text* above the bar."""
        self._bar.console.print(clean(text), markup=False, highlight=False)

    def close(self) -> None:
        """Leave the last state on the screen."""
        self._bar.stop()


def _rich_bar(rows: int) -> tuple[RichProgress, TaskID]:
    from rich.console import Console  # noqa: PLC0415 - 44 ms, needed on a terminal only
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn  # noqa: PLC0415 - as above
    from rich.progress import Progress as RichProgress  # noqa: PLC0415 - as above

    bar = RichProgress(
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[counts]} · {task.fields[rate]} · {task.fields[left]}", markup=False),
        TextColumn("{task.fields[why]}", markup=False, style="yellow"),
        console=Console(stderr=True),
        auto_refresh=False,
        refresh_per_second=4,
        transient=False,
    )
    task = bar.add_task("", total=rows, counts="", rate="", left="", why="")
    bar.start()
    return bar, task


def chosen(kind: str, rows: int, *, quiet: bool) -> Progress:
    """The progress for `--progress` *kind*; `auto` is a bar on a terminal and plain lines elsewhere."""
    if quiet or kind == "none":
        return NoProgress()
    if kind == "auto":
        kind = "bar" if sys.stderr.isatty() else "plain"
    makers: dict[str, Callable[[int], Progress]] = {"bar": BarProgress, "plain": TextProgress, "json": JsonProgress}
    return makers[kind](rows)
