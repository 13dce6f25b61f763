"""What becomes of a row of a feedback file, given what the journal knows of the row that its mark names.

A mark such as `17-k3f9` names a row in a feedback file (`failed.csv`, `unknown.csv`), wherever the row is moved: its
number in the journal, and four letters, a digest of the journal, the row and what the row said when the file was
written. A mark of another run folder, or of a row that was changed since, does not fit.
"""

from __future__ import annotations

import re
from enum import StrEnum
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from d3async.d3.call import normalize_number
from d3async.policy.outcome import NOT_LINKED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from d3async.jobs.job import Job

COLUMN = "_row"
"""The column or key of a feedback file that holds the mark."""
_FIRST = "bcdfghjkmnpqrstvwxyz"
_OTHERS = "0123456789" + _FIRST
# no vowels and a letter first: no spreadsheet takes a mark for a date or a number
_MARK = re.compile(rf"'?([0-9]{{1,18}})-([{_FIRST}][{_OTHERS}]{{3}})", re.ASCII)


class Mark(NamedTuple):
    """A mark as read: *job* is the row's number in the journal, *letters* check it."""

    job: int
    letters: str

    def __str__(self) -> str:
        return f"{self.job}-{self.letters}"


def row_mark(uid: str, job: int, content: bytes) -> Mark:
    """The mark of row *job* of the journal *uid*; *content* is the digest of what the row says now."""
    origin = b"\x1f".join((uid.encode(), str(job).encode(), content))
    number = int.from_bytes(blake2b(origin, digest_size=8, person=b"row mark").digest(), "big")
    number, first = divmod(number, len(_FIRST))
    letters = _FIRST[first]
    for _ in range(3):
        number, place = divmod(number, len(_OTHERS))
        letters += _OTHERS[place]
    return Mark(job, letters)


def read_mark(cell: object) -> Mark | None:
    """The mark that *cell* holds; None where it holds none. Blanks, letter case and a leading `'` do not matter."""
    found = _MARK.fullmatch(cell.strip().lower()) if isinstance(cell, str) else None
    return Mark(int(found[1]), found[2]) if found else None


def fits(mark: Mark, uid: str, content: bytes) -> bool:
    """Whether *mark* is the one that its row of the journal *uid* has with *content*."""
    return mark == row_mark(uid, mark.job, content)


SHOWN = 3
"""Pairs that are shown; the rest is counted."""
_WIDTH = 160
_DOUBT = frozenset({"unknown", "sent"})


class Ruling(StrEnum):
    """*CONTINUE*: the row is renewed and sent. *DONE*: it is done, and was sent as the file says. *STAYS*: unknown.

    The others are refused: nothing of the file is sent.
    """

    CONTINUE = "continue"
    DONE = "done"
    STAYS = "stays"
    FOREIGN = "foreign"
    CHANGED = "changed"
    VANISHED = "vanished"
    SENT = "sent"
    SPLIT = "split"


REFUSED = frozenset({Ruling.FOREIGN, Ruling.CHANGED, Ruling.VANISHED, Ruling.SENT, Ruling.SPLIT})
_WHY = {
    Ruling.FOREIGN: "has a _row that does not fit this run folder: the file belongs to another run folder,"
    " or all its rows were changed since",
    Ruling.CHANGED: "was changed in {input}, or by another feedback file, since this file was written",
    Ruling.VANISHED: "is no longer in {input}",
    Ruling.SENT: "was done after this file was written",
    Ruling.SPLIT: "is done in part, so its other columns cannot be changed: add a new row to {input}",
}


class KnownItem(NamedTuple):
    """One linked incident of a row, as the journal has it."""

    name: str
    fold: str
    state: str
    code: str | None

    @property
    def stays(self) -> bool:
        """Whether a feedback file leaves it as it is: it is done, has nothing to remove, or nothing is known of it."""
        return self.state in {"ok", *_DOUBT} or self.code == NOT_LINKED


class KnownRow(NamedTuple):
    """A row as the journal has it. *row* is its data row in the file it came from, None once it vanished from there.

    *content* is the digest of what it says now. *before* is the digest of what it said when a feedback file changed
    it to that; None where none did.
    """

    job: int
    row: int | None
    line: int | None
    state: str
    code: str | None
    message: str | None
    content: bytes
    before: bytes | None
    raw: str
    command: str | None
    site: str | None
    profile: str | None
    label: str | None
    items: Sequence[KnownItem] = ()

    @property
    def outcome(self) -> str:
        """The state as users know it."""
        return {"pending": "unsent", "sent": "unknown"}.get(self.state, self.state)


def rule(mark: Mark, uid: str, known: KnownRow | None) -> Ruling:
    """What the row that *mark* names is open to. *known* is that row in the journal *uid*, None where there is none."""
    if known is None:
        return Ruling.FOREIGN
    again = known.before is not None and fits(mark, uid, known.before)
    if not again and not fits(mark, uid, known.content):
        return Ruling.FOREIGN
    if known.row is None:
        return Ruling.VANISHED
    if known.state in _DOUBT:
        return Ruling.STAYS
    if known.state == "ok":
        return Ruling.DONE if again else Ruling.SENT
    return Ruling.CONTINUE


def rule_job(ruling: Ruling, job: Job, content: bytes, known: KnownRow) -> Ruling:
    """What becomes of *job*, which says *content*, where its mark alone gave *ruling*."""
    if ruling is Ruling.DONE:
        return ruling if content == known.content or _has_all(job, known) else Ruling.SENT
    if ruling is Ruling.CONTINUE and known.state == "partial" and not _same_place(job, known):
        return Ruling.SPLIT
    return ruling


def whole(job: Job, known: KnownRow) -> Job:
    """*job* with the items of *known* that a feedback file leaves as they are, in the order that they have there.

    Only of a row done in part: its feedback row lists only the items that failed.
    """
    if known.state != "partial" or not job.asked.items:
        return job
    listed = {normalize_number(name): name for name in job.asked.items}
    there = {item.fold: item.name if item.stays else listed[item.fold] for item in known.items if _in(item, listed)}
    items = [*there.values(), *(name for key, name in listed.items() if key not in there)]
    return job._replace(asked=job.asked._replace(items=tuple(items)))


def _in(item: KnownItem, listed: Mapping[str, str]) -> bool:
    return item.stays or item.fold in listed


def _same_place(job: Job, known: KnownRow) -> bool:
    now = (job.asked.kind.__name__, job.site, job.profile, normalize_number(job.asked.subject))
    return now == (known.command, known.site, known.profile, normalize_number(known.label or ""))


def _has_all(job: Job, known: KnownRow) -> bool:
    """Whether a row done item by item has every item that *job* lists."""
    listed = {normalize_number(name) for name in job.asked.items}
    return bool(listed) and _same_place(job, known) and listed <= {item.fold for item in known.items}


class Pair(NamedTuple):
    """A row that is refused: where and what it is in the feedback file, and what the journal has of it."""

    ruling: Ruling
    line: int
    mark: Mark
    raw: str
    known: KnownRow | None


def refusal(name: str, input_name: str, pairs: Sequence[Pair], counts: Mapping[Ruling, int], advice: str) -> str:
    """Why nothing of the feedback file *name* is sent: the first *pairs*, and how many rows in all by reason."""
    total = sum(counts.values())
    lines = [f"{name}: {total:,} row{'s' * (total != 1)} cannot be sent from this file; nothing was sent."]
    for pair in pairs[:SHOWN]:
        lines.append(f"  line {pair.line}, {pair.mark}: {_WHY[pair.ruling].format(input=input_name)}")
        lines.append(f"    the file says     {_short(pair.raw)}")
        if pair.known is not None and pair.ruling is not Ruling.FOREIGN:
            lines.append(f"    the run folder    {pair.known.outcome}: {_short(pair.known.raw)}")
    if total > len(pairs[:SHOWN]):
        lines.append(f"  and {total - len(pairs[:SHOWN]):,} more")
    return "\n".join([*lines, advice])


def with_reasons(
    pairs: Sequence[Pair], counts: Mapping[Ruling, int], *, fitting: int
) -> tuple[list[Pair], dict[Ruling, int]]:
    """*pairs* and *counts*: in a file some of whose marks fit, one that does not is of a row that was changed."""
    if not fitting:
        return list(pairs), dict(counts)
    told = {Ruling.FOREIGN: Ruling.CHANGED}
    found: dict[Ruling, int] = {}
    for ruling, count in counts.items():
        reason = told.get(ruling, ruling)
        found[reason] = found.get(reason, 0) + count
    return [pair._replace(ruling=told.get(pair.ruling, pair.ruling)) for pair in pairs], found


def _short(raw: str) -> str:
    text = " ".join(raw.split())
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"
