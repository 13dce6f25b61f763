"""What is asked of the writer, and which of it may be done in one go."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Hashable, Iterable, Sequence

    from d3async.journal.base import Event, Settlement
    from d3async.sansio.call import Call


class Owner(NamedTuple):
    """Whoever has a chunk open, and what the chunk is: see `schema`, table chunk."""

    run: int
    chunk: int
    epoch: int
    round: int
    lo: int
    hi: int
    serial: bool


@dataclass(slots=True, eq=False)
class Claim:
    """A call to mark as sent at *at*, seconds since 1970."""

    call: Call
    at: float


@dataclass(slots=True, eq=False)
class Release:
    """A mark to take back; *sent* as in `Log.release`."""

    call: Call
    sent: bool


@dataclass(slots=True, eq=False)
class Settle:
    """A last word to record."""

    settlement: Settlement

    @property
    def call(self) -> Call:
        """The call it is about."""
        return self.settlement.call


@dataclass(slots=True, eq=False)
class Note:
    """An event to write down."""

    event: Event


@dataclass(slots=True, eq=False)
class Lanes:
    """See `Journal.lanes`."""

    after: int
    most: int


@dataclass(slots=True, eq=False)
class Take:
    """See `Journal.take`."""

    lane: int
    most: int


Work = Claim | Release | Settle | Note | Lanes | Take


@dataclass(slots=True, eq=False)
class Wish:
    """Something asked for by *owner*."""

    owner: Owner
    work: Work
    done: Future[Any]

    @property
    def at_once(self) -> bool:
        """Whether it fails when the database does not answer, rather than waits."""
        return isinstance(self.work, Claim | Lanes | Take)

    def undone(self) -> Wish:
        """What takes back the claim that this wish made and nobody made use of."""
        if not isinstance(self.work, Claim):
            raise TypeError(self.work)
        done = self.done.get_loop().create_future()
        return Wish(self.owner, Release(self.work.call, sent=False), done)


@dataclass(slots=True)
class Round:
    """Writes that touch no row twice, and reads that are to see them."""

    writes: list[Wish] = field(default_factory=list)
    reads: list[Wish] = field(default_factory=list)

    def of(self, kind: type[Work], *, items: bool) -> list[Wish]:
        """The writes of *kind* whose calls carry *items*, or do not."""
        return [wish for wish in self.writes if isinstance(wish.work, kind) and bool(_call(wish.work).items) is items]


def rounds(wishes: Iterable[Wish]) -> Sequence[Round]:
    """*wishes* in as few rounds as keep the order of those about the same rows."""
    found: list[Round] = []
    next_of: dict[Hashable, int] = {}
    after_all: dict[Owner, int] = {}
    for wish in wishes:
        reads = isinstance(wish.work, Lanes | Take)
        at = after_all.get(wish.owner, 0) if reads else next_of.get(_rows(wish), 0)
        while len(found) <= at:
            found.append(Round())
        if reads:
            found[at].reads.append(wish)
            continue
        found[at].writes.append(wish)
        after_all[wish.owner] = max(at, after_all.get(wish.owner, 0))
        if not isinstance(wish.work, Note):
            next_of[_rows(wish)] = at + 1
    return found


def _rows(wish: Wish) -> Hashable:
    """What tells the rows a write touches from those of others: its row, or the source of its items."""
    if isinstance(wish.work, Note):
        return None
    call = _call(wish.work)
    return wish.owner.run, call.source if call.items else None, call.job


def _call(work: Work) -> Call:
    if isinstance(work, Claim | Release | Settle):
        return work.call
    raise TypeError(work)
