"""What of a job, or of a row that is none, goes into a journal, whichever database keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from d3async.commands import all_commands
from d3async.sansio.call import fold
from d3async.sansio.identity import digest, request_digest
from d3async.sansio.job import Problem

if TYPE_CHECKING:
    from d3async.sansio.job import Invalid, Job


PROFILE_MARK = "\x1e"
"""Begins and ends a profile in `lane_key`: no user's name begins so, as it is cut from cells like a blank."""
_SHOWN = 60


class JobEntry(NamedTuple):
    """*identity* tells rows apart, *content* whether one was changed. *lane_key* is who asks about which incident."""

    identity: bytes
    content: bytes
    lane_key: str


def job_entry(job: Job) -> JobEntry:
    """What of *job* goes into a journal beside what it asks for."""
    kind, params, subject, _, items = job.asked
    site, account, profile = job.site, job.username or "", job.profile
    content = request_digest(kind, params, site, profile, items)
    if profile is not None:
        account = f"{PROFILE_MARK}{profile}{PROFILE_MARK}{account}"
    identity = content if job.key is None else _identity_of(job.key, profile)
    return JobEntry(identity, content, f"{account}\x1f{site}\x1f{fold(subject)}")


def _identity_of(key: str, profile: str | None) -> bytes:
    return digest("key", key) if profile is None else digest("profile", profile, "key", key)


def identity_of_invalid(entry: Invalid) -> bytes:
    """What tells a row that is never sent from others."""
    return digest("key", entry.key) if entry.key is not None else digest("invalid", str(entry.row), entry.raw)


def invalid_words(entry: Invalid) -> tuple[str, str]:
    """`_code` and `_message` of a row that is never sent."""
    return f"invalid.{entry.problems[0].code}", "; ".join(map(sentence, entry.problems))


def sentence(problem: Problem) -> str:
    """*problem* as one sentence, with the cure where there is one."""
    where = f"{problem.column}{_quoted(problem)}: " if problem.column else ""
    return f"{where}{problem.message}" + (f" ({problem.cure})" if problem.cure else "")


def _quoted(problem: Problem) -> str:
    """The id itself, which is looked for in the file; other cells stand beside the message in the results."""
    return f' "{" ".join(problem.value.split())[:_SHOWN]}"' if problem.code == "id" and problem.value else ""


class Repeated(NamedTuple):
    """A row whose identity an earlier one has: the first row with it, and how many rows with it come before this one.

    *value* is the id of the row, if it is *keyed*, else what it is about. *valid*: nothing else is wrong with it.
    """

    row: int
    line: int
    keyed: bool
    command: str | None
    valid: bool
    value: str | None
    first_row: int
    first_line: int
    occurrence: int


class Rejection(NamedTuple):
    """Why a repeated row is invalid, in the words of the journal, and the *identity* that it gets instead."""

    problem: Problem
    code: str
    message: str
    identity: bytes


def judge_repeat(found: Repeated, *, allow: bool) -> Rejection | None:
    """Why *found* is invalid; None where it is told apart from the rows before it by its occurrence.

    The same id twice is always wrong. Identical rows of a command that must not be done twice are wrong unless
    *allow*.
    """
    value, first = found.value or "", f"line {found.first_line}"
    if found.keyed:
        problem = Problem("id", "id", value, f"stands on {first} already", "make ids unique")
    elif allow or not found.valid or all_commands()[found.command or ""].repeatable:
        return None
    else:
        problem = Problem("duplicate", "", value, f"the same as {first}", "--allow-duplicates if both are meant")
    identity = digest("repeated", str(found.first_row), str(found.row))
    return Rejection(problem, f"invalid.{problem.code}", sentence(problem), identity)
