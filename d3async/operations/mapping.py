"""The mapping that a profile keeps: put beside what was typed, told in a line, and saved from what was typed."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from d3async.commands import all_commands, find
from d3async.errors import JobFileError, SettingsError
from d3async.sansio import mapping
from d3async.settings.job_files import LISTS, TEXTS
from d3async.settings.saving import save_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from d3async.cli.examined import Examined
    from d3async.cli.jobfile import JobFileOptions
    from d3async.cli.servers import Servers
    from d3async.commands.base import Command
    from d3async.files.read import Table
    from d3async.settings.profile import Profile

_FIELDS = {"map": "names", "set": "values"}
_PROFILE = "profile "
_FORM = ("encoding", "delimiter", "sheet")
SAVED = frozenset(_FIELDS.get(name, name) for name in (*LISTS, *TEXTS))
"""The fields of `JobFileOptions` that `save` keeps in a profile."""
_TYPED = tuple(f"--{name.replace('_', '-')}" for name in (*LISTS, *TEXTS))


@dataclass(frozen=True, slots=True)
class Kept:
    """What *origin*, a profile of the config file *path* or an earlier run, says of job files, by option."""

    origin: str
    path: Path
    options: Mapping[str, str | tuple[str, ...]]

    @property
    def profile(self) -> str:
        """The name of the profile; "" for an earlier run."""
        return self.origin.removeprefix(_PROFILE) if self.origin.startswith(_PROFILE) else ""


def with_kept(job_file: JobFileOptions, profile: Profile) -> JobFileOptions:
    """*job_file* and what *profile* keeps; both count."""
    return replace(
        job_file, kept=Kept(f"profile {profile.name}", profile.path, profile.files) if profile.name else None
    )


def with_own(job_file: JobFileOptions, servers: Servers, *, save: bool) -> JobFileOptions:
    """*job_file* and what the profile in use keeps. With *save* (`--save-mapping`) there must be one to save in.

    Raises `SettingsError`.
    """
    profile = servers.own_profile()
    if save and not profile.name:
        names = ", ".join(servers.profile_names())
        there = f"it has: {names}" if names else "it has none: begin one with [profiles.NAME]"
        raise SettingsError(
            f"--save-mapping saves in a profile of {profile.path}: give --profile NAME, or set D3_PROFILE ({there})",
            code="settings",
        )
    if save and not _typed(job_file):
        raise SettingsError(f"--save-mapping saves what is typed of {', '.join(_TYPED)}: none is", code="option")
    return with_kept(job_file, profile)


def form(job_file: JobFileOptions) -> dict[str, str | None]:
    """How the file is opened. The sheet of a profile is for workbooks; that a CSV has none is no error then."""
    kept = job_file.kept.options if job_file.kept else {}
    typed = {name: getattr(job_file, name) for name in _FORM}
    found: dict[str, Any] = {name: kept.get(name) if typed[name] is None else typed[name] for name in _FORM}
    # what is kept and typed empty is taken back
    found = {name: None if found[name] == "" and name in kept else found[name] for name in _FORM}
    if typed["sheet"] is None:
        return {**found, "sheet": None, "usual_sheet": found["sheet"]}
    return found


def read_as(job_file: JobFileOptions, table: Table) -> JobFileOptions:
    """The options *table* is read by. Raises `JobFileError` for a column that no command has."""
    if job_file.kept is None:
        return job_file
    target = _target(job_file, table)
    typed, kept = mapping.said(_typed(job_file), target.commands), mapping.said(job_file.kept.options)
    options = mapping.options_of(mapping.together(kept, typed, target))
    # sorted, as the journal compares them: typed or kept makes no difference
    lists: dict[str, Any] = {_FIELDS[name]: tuple(sorted(options.get(name, ()))) for name in LISTS}
    texts: dict[str, Any] = {name: options.get(name) for name in TEXTS}
    return replace(job_file, kept=None, **lists, **texts)


def words_for(job_file: JobFileOptions, table: Table, command: type[Command] | None) -> tuple[str, str]:
    """What the profile says of *table*, rows of *command*, and a line about what of that counts; "" for nothing."""
    if job_file.kept is None:
        return "", ""
    target = _target(job_file, table)
    typed, kept = mapping.said(_typed(job_file), target.commands), mapping.said(job_file.kept.options)
    target = _narrowed(target, command)
    every, words = (mapping.told(mapping.in_use(kept, beside, target)) for beside in ({}, typed))
    return every, words and f"mapping of {job_file.kept.origin}: {words}"


def save(job_file: JobFileOptions, examined: Examined) -> str:
    """Save what was typed in the profile in use; the line that says so. The header of *examined* fits it.

    `examined.kept` says then what is kept now. Raises `SettingsError` when it cannot be written.
    """
    kept, target = job_file.kept, _target(job_file, examined.table)
    if kept is None or not kept.profile:
        raise SettingsError("there is no profile to save in", code="settings")
    typed = mapping.said(_typed(job_file), target.commands)
    save_files(
        kept.path,
        kept.profile,
        lambda there: mapping.options_of(mapping.to_keep(mapping.said(there), typed, target)),
    )
    after = mapping.to_keep(mapping.said(kept.options), typed, target)
    examined.kept = mapping.told(mapping.in_use(after, {}, _narrowed(target, examined.command)))
    return f"saved in {kept.origin} ({kept.path}): {mapping.told_saved(typed)}"


def file_lines(examined: Examined, rows: int, saved: str = "", *, name: str = "") -> list[str]:
    """What the file is, what is in doubt about it, and what mapping it is read by; *saved* is what `save` says."""
    remarks = (*examined.format.doubts, examined.mapping, saved)
    return [f"{name or examined.name}: {examined.describe(rows)}", *(f"  {line}" for line in remarks if line)]


@contextmanager
def blaming(kept: Kept | None) -> Iterator[None]:
    """Errors that may come from what a profile keeps name it."""
    try:
        yield
    except (JobFileError, SettingsError) as error:
        if kept is None or not kept.options or not _concerns(error, kept):
            raise
        words = "; ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in kept.options.items())
        raise type(error)(
            f"{error.message}\n  {kept.origin} ({kept.path}) says {words};"
            " an option that is typed wins, one that is typed empty takes it back",
            code=error.code,
        ) from error


def _concerns(error: JobFileError | SettingsError, kept: Kept) -> bool:
    return error.code == "header" or any(name.replace("_", "-") in error.message for name in kept.options)


def _typed(job_file: JobFileOptions) -> dict[str, str | Sequence[str]]:
    given = {name: getattr(job_file, _FIELDS.get(name, name)) for name in (*LISTS, *TEXTS)}
    return {name: value for name, value in given.items() if value is not None and value != ()}


def _target(job_file: JobFileOptions, table: Table) -> mapping.Target:
    named = find(job_file.command)
    return mapping.Target(table.format.kind, table.header, [named] if named else list(all_commands().values()))


def _narrowed(target: mapping.Target, command: type[Command] | None) -> mapping.Target:
    return target._replace(commands=[command]) if command else target
