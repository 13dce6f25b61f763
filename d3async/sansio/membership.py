"""Who shares a limit, who has fallen silent, and what that leaves to each."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

FORGOTTEN = 5.0
"""Seconds after which a silent process with no connection to the store is taken for dead."""
_LONGEST_PROMISE = 7.0
CUT_OFF = 60.0
"""The same where its connection still stands: it was frozen, or cut off, and may go on sending its static share."""


@dataclass(frozen=True, slots=True)
class Member:
    """A process as the store knows it. *due* is the time by which it promised to be heard of again.

    *accepted* is the number of its requests that were answered in the last second, and not by a 429.
    """

    name: str
    due: float
    accepted: int = 0
    connected: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """One process among *members*, of which *silent* may be cut off; *index* is its place, from 0.

    *elsewhere* is what the others got answered in the last second. *unsure*: some process is there that has not kept
    its promise, for however long: it may have been frozen, or the store's clock set forward a moment ago.
    """

    members: int = 1
    silent: int = 0
    index: int = 0
    elsewhere: int = 0
    unsure: bool = False


def standing(others: Iterable[Member], name: str, now: float, *, since: float = -math.inf) -> Standing:
    """Where process *name* stands among *others*; the store can be reached *since* then."""
    others = list(others)
    kept = [other for other in others if _kept(other, now, since)]
    return Standing(
        members=1 + len(kept),
        silent=sum(not _kept_word(other, now) for other in kept),
        index=sum(other.name < name for other in kept),
        elsewhere=sum(other.accepted for other in kept if _kept_word(other, now)),
        unsure=any(not _kept_word(other, now) and (other.connected or other in kept) for other in others),
    )


def _kept_word(member: Member, now: float) -> bool:
    # a promise too far ahead was made by a clock that has been set back
    return now <= member.due <= now + _LONGEST_PROMISE


def _kept(member: Member, now: float, since: float) -> bool:
    if member.due > now + _LONGEST_PROMISE:
        return member.connected
    return max(member.due, since) + FORGOTTEN > now or (member.connected and member.due + CUT_OFF > now)


def left_over(rate: float, standing: Standing) -> float:
    """What of *rate* a second may be reserved while silent members may be sending their static share.

    Each of them keeps a pace of its own, so its requests can fall together with ours: one a second more is left to it.
    """
    if not standing.silent:
        return rate
    rest = rate * (standing.members - standing.silent) / standing.members - standing.silent
    return max(rest, rate / standing.members / 2)


def own_turn(after: float, *, every: float, standing: Standing) -> float:
    """The first time from *after* on that is this process's by the plan for days without a store.

    Time is cut into turns of *every* seconds which go round among the members. All reckon by the store's clock as
    they last knew it, so together they keep the pace that they kept with it.
    """
    turn = math.ceil(after / every - 1e-6)
    turn += (standing.index - turn) % standing.members
    return turn * every
