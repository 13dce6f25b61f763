"""What makes two rows the same: digests of what a row asks for, of its text, of what makes rows look alike.

Identity, version 2: the command, the site, the profile, the fields that are not at their default, and the items, all
in Unicode's form C. A field with a default that a later version adds changes no identity.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from functools import cache, lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from d3async.d3.call import composed, normalize_number
from d3async.d3.commands import all_commands
from d3async.jobs.job import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from d3async.d3.commands import Command
    from d3async.jobs.job import Invalid, Job

VERSION = 2
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a calendar without a zone, as D3's due dates are
_KEPT_DUES = 1000
_LEADING_ZEROS = re.compile(r"(?<!\d)0+(?=\d)")


class LookAlike(NamedTuple):
    """What of a row is compared with rows that were sent before; all None for a command that may be repeated.

    *similar* and *alike* are signed 64-bit digests of the fields that the command names so, *due* is its date in
    seconds of a calendar without zones.
    """

    similar: int | None
    alike: int | None
    due: int | None


def digest(*parts: str) -> bytes:
    """16 bytes that stand for *parts*: equal parts, equal digest."""
    joined = "".join([f"{len(part)}:{part}" for part in parts])
    return blake2b(joined.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def text_digest(raw: str) -> bytes:
    """16 bytes that stand for a row's own text."""
    return blake2b(raw.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def request_digest(
    kind: type[Command], params: str, site: str, profile: str | None = None, items: Iterable[str] = ()
) -> bytes:
    """A digest of 16 bytes of what a row asks for. *params* is `Request.params`."""
    for fragment, instead in _at_default(kind):
        params = params.replace(fragment, instead)
    name, params, site = kind.__name__, composed(params), composed(site)
    if kind.items or profile is not None:
        whose = () if profile is None else ("profile", profile)
        return digest(*whose, name, site, params, *map(composed, items))
    # `digest` of the three, for most rows are such
    joined = f"{len(name)}:{name}{len(site)}:{site}{len(params)}:{params}"
    return blake2b(joined.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def look_alike(kind: type[Command], params: str, site: str) -> LookAlike:
    """What of a row of *kind* is compared with rows sent before. *params* is `Request.params`."""
    if kind.repeatable or not kind.similar:
        return LookAlike(None, None, None)
    similar, alike = (
        _number(kind.__name__, site, *(_compared(kind, params, name) for name in names)) if names else None
        for names in (kind.similar, kind.alike)
    )
    return LookAlike(similar, alike, _seconds(field_of(kind, params, kind.when)) if kind.when else None)


def _compared(kind: type[Command], params: str, name: str) -> str:
    """A field as look-alikes are compared: a spreadsheet drops leading zeros of an incident number."""
    value = field_of(kind, params, name)
    return _LEADING_ZEROS.sub("", value) if name == kind.subject else value


def field_of(kind: type[Command], params: str, name: str) -> str:
    """The value of our field *name* in *params*, as text; "" where there is none."""
    parameter = kind.parameter(name)
    # in our own JSON a quote inside a text has a backslash before it
    _, found, rest = params.partition(f'"{parameter}":"')
    value, ended, _ = rest.partition('"')
    if found and ended and "\\" not in value:
        return value
    there = json.loads(params).get(parameter)
    return there if isinstance(there, str) else "" if there is None else json.dumps(there, ensure_ascii=False)


def folded_text(text: str) -> str:
    """*text* as look-alikes are compared: form C, without regard to letter case, each run of blanks as one."""
    return composed(" ".join(composed(text).casefold().split()))


def _number(*parts: str) -> int:
    joined = "\x1f".join(map(folded_text, parts))
    return int.from_bytes(blake2b(joined.encode("utf-8", "surrogatepass"), digest_size=8).digest(), signed=True)


@lru_cache(_KEPT_DUES)
def _seconds(due: str) -> int | None:
    try:
        return int((datetime.fromisoformat(due).replace(tzinfo=None) - _EPOCH).total_seconds())
    except ValueError:
        return None


@cache
def _at_default(kind: type[Command]) -> tuple[tuple[str, str], ...]:
    """The text of each field at its default, as it is in `Request.params`, and what is left without it."""
    found = []
    names = [name for name in kind.model_fields if name != kind.items]
    for at, name in enumerate(names):
        field = kind.model_fields[name]
        if field.is_required() or field.default_factory is not None:
            continue
        value = json.dumps(field.default, ensure_ascii=False, separators=(",", ":"))
        text = f"{json.dumps(kind.parameter(name), ensure_ascii=False)}:{value}"
        found.append((f",{text}", "") if at else (f"{{{text},", "{"))
    return tuple(found)


PROFILE_MARK = "\x1e"
"""Begins and ends a profile in `lane_key`: no user's name begins so, as it is cut from cells like a blank."""
_SHOWN = 60


class JobIdentity(NamedTuple):
    """*identity* tells rows apart, *content* whether one was changed. *lane_key* is who asks about which incident."""

    identity: bytes
    content: bytes
    lane_key: str


def identify(job: Job) -> JobIdentity:
    """What of *job* goes into a journal beside what it asks for."""
    kind, params, subject, _, items = job.asked
    site, account, profile = job.site, job.username or "", job.profile
    content = request_digest(kind, params, site, profile, items)
    if profile is not None:
        account = f"{PROFILE_MARK}{profile}{PROFILE_MARK}{account}"
    identity = content if job.key is None else _identity_of(job.key, profile)
    return JobIdentity(identity, content, f"{account}\x1f{site}\x1f{normalize_number(subject)}")


def _identity_of(key: str, profile: str | None) -> bytes:
    return digest("key", key) if profile is None else digest("profile", profile, "key", key)


def identity_of_invalid(entry: Invalid) -> bytes:
    """What tells a row that is never sent from others."""
    return digest("key", entry.key) if entry.key is not None else digest("invalid", str(entry.row), entry.raw)


def invalid_words(entry: Invalid) -> tuple[str, str]:
    """`_code` and `_message` of a row that is never sent."""
    return f"invalid.{entry.problems[0].code}", "; ".join(map(problem_text, entry.problems))


def problem_text(problem: Problem) -> str:
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
    """Why *found* is invalid; None where its occurrence makes it another row than those before it.

    The same id twice is always wrong. Identical rows of a command that must not be done twice are wrong unless
    *allow*.
    """
    value, first = found.value or "", f"line {found.first_line}"
    if found.keyed:
        problem = Problem("id", "id", value, f"is on {first} already", "make ids unique")
    elif allow or not found.valid or all_commands()[found.command or ""].repeatable:
        return None
    else:
        problem = Problem("duplicate", "", value, f"the same as {first}", "--allow-duplicates if both are meant")
    identity = digest("repeated", str(found.first_row), str(found.row))
    return Rejection(problem, f"invalid.{problem.code}", problem_text(problem), identity)
