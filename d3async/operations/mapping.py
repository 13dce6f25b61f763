"""Options about a job file: what was typed, what a profile keeps, which of the two counts; saving it."""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from d3async.config.config_file import LISTS, TEXTS, save_files
from d3async.d3.commands import all_commands, find
from d3async.errors import JobFileError, SettingsError
from d3async.files.job_file import open_table
from d3async.jobs.columns import bare, guess, known_names, likely, meaning
from d3async.jobs.dates import formats_of, strptime_pattern
from d3async.jobs.job import Row

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from d3async.config.config_file import Profile
    from d3async.d3.commands import Command
    from d3async.files.job_file import Table
    from d3async.jobs.columns import Guess
    from d3async.operations.job_file import OpenJobFile
    from d3async.operations.server_settings import Servers

    Options = Mapping[str, str | Sequence[str]]
    """Options by name: `map` and `set` are lists of `NAME=VALUE`, the others one text."""

_ENTRY_FORM = {"encoding": {"csv", "jsonl"}, "delimiter": {"csv"}, "sheet": {"xlsx"}}
"""The kinds of files that an option about their form is for."""
_DATES = {"date_format": "", "time_zone": "in ", "server_time_zone": "sent in "}
_DUE = "due"


class MappingEntry(NamedTuple):
    """What *option* says, of *name* where it says something of a column; *field* is our column, "" for none."""

    option: str
    name: str
    value: str
    field: str = ""


class Target(NamedTuple):
    """The file a mapping is for: its kind, its header (empty where lines bring their own keys), its commands."""

    kind: str
    header: Sequence[str]
    commands: Collection[type[Command]]


def pairs(given: Iterable[str], option: str) -> dict[str, str]:
    """What `NAME=VALUE` texts say. Raises `SettingsError`."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise SettingsError(f'{option} "{text}" lacks its =: write it like {option} "Column=Value"', code="option")
        if name.strip() in found:
            raise SettingsError(f'{option} says twice what "{name.strip()}" is', code="option")
        found[name.strip()] = value.strip()
    return found


def entries_of(options: Options, commands: Collection[type[Command]] = ()) -> Said:
    """What *options* say, each thing by what it is about; of two that are about the same the later one counts.

    Raises `SettingsError` for what is no `NAME=VALUE`, `JobFileError` for a column that none of *commands* has.
    """
    commands = commands or all_commands().values()
    found: Said = {}
    for option, told in options.items():
        if isinstance(told, str):
            found[option, ""] = MappingEntry(option, "", told)
            continue
        for name, value in pairs(told, f"--{option}").items():
            if option == "map":
                found[option, bare(name)] = MappingEntry(option, name, value, value and meaning(value, commands))
            else:
                column = meaning(name, commands)
                found[option, column] = MappingEntry(option, name, value, column)
    return found


def in_use(kept: Said, typed: Said, target: Target) -> Said:
    """What of *kept* counts for *target*: what fits it and is not overruled by *typed*.

    A header that the file has not, a column of another command, the separator of a workbook are left out: one profile
    serves many files. The id column is not: without it rows that are done would be new ones.
    """
    known = set(known_names(target.commands).values())
    here = set(map(bare, target.header))

    def fits(entry: MappingEntry) -> bool:
        if entry.option == "map" and here and bare(entry.name) not in here:
            return False
        if entry.option in _DATES and _DUE not in known:
            return False
        return (not entry.field or entry.field in known) and target.kind in _ENTRY_FORM.get(entry.option, {target.kind})

    rest = kept.keys() - typed.keys() - _overruled(kept, typed, target)
    return {about: entry for about, entry in kept.items() if about in rest and fits(entry)}


def together(kept: Said, typed: Said, target: Target) -> Said:
    """How *target* is read: by *typed*, and by what of *kept* is `in_use`."""
    return _without(in_use(kept, typed, target) | typed, _taken_back(kept, typed))


def to_keep(kept: Said, typed: Said, target: Target) -> Said:
    """What is kept once *typed* is saved: *target* is read the same way by that alone."""
    return _without(kept | typed, _taken_back(kept, typed) | _overruled(kept, typed, target))


def _overruled(kept: Said, typed: Said, target: Target) -> set[tuple[str, str]]:
    """Headers of the file that were our column, where another header was now typed to be it."""
    here = set(map(bare, target.header))
    fields = {entry.field for entry in typed.values() if entry.option == "map" and entry.field}
    return {
        about
        for about, entry in kept.items()
        if entry.option == "map" and entry.field in fields and about not in typed and (not here or about[1] in here)
    }


def _taken_back(kept: Said, typed: Said) -> set[tuple[str, str]]:
    """What is kept and was typed empty; a header that is mapped to nothing says something."""
    return {about for about, entry in typed.items() if about in kept and entry.option != "map" and not entry.value}


def _without(found: Said, gone: set[tuple[str, str]]) -> Said:
    return {about: entry for about, entry in found.items() if about not in gone}


def options_of(found: Said) -> dict[str, str | list[str]]:
    """*found* as options again, as they were written."""
    options: dict[str, str | list[str]] = {}
    for entry in found.values():
        if not entry.name:
            options[entry.option] = entry.value
            continue
        several = options.setdefault(entry.option, [])
        if isinstance(several, list):
            several.append(f"{entry.name}={entry.value}")
    return options


def describe(found: Said) -> str:
    """*found* in words: `Bearbeiter = assignee; type is "Default" where empty; dates dd.MM.yyyy HH:mm`."""
    words = [
        f"{entry.name} = {entry.field}" if entry.field else f"{entry.name} left as it is"
        for entry in found.values()
        if entry.option == "map"
    ]
    words += [f'{entry.field} is "{entry.value}" where empty' for entry in found.values() if entry.option == "set"]
    texts = {entry.option: entry.value for entry in found.values() if not entry.name}
    dates = [lead + texts[name] for name, lead in _DATES.items() if texts.get(name)]
    words += [f"dates {' '.join(dates)}"] if dates else []
    words += [
        f'{what} "{texts[name]}"'
        for name, what in (("id_column", "id column"), ("delimiter", "separator"), ("sheet", "sheet"))
        if texts.get(name)
    ]
    words += [f"encoding {texts['encoding']}"] if texts.get("encoding") else []
    return "; ".join(words)


def told_saved(typed: Said) -> str:
    """What saving *typed* does, in words."""
    empty = {about: entry for about, entry in typed.items() if entry.option != "map" and not entry.value}
    gone = [f"no {entry.field or entry.option.replace('_', ' ')} any more" for entry in empty.values()]
    return "; ".join(filter(None, [describe(_without(typed, set(empty))), *gone]))


@dataclass(frozen=True, slots=True)
class SavedMapping:
    """What *origin*, a profile of the config file *path* or an earlier run, says of job files, by option."""

    origin: str
    path: Path
    options: Mapping[str, str | tuple[str, ...]]

    @property
    def profile(self) -> str:
        """The name of the profile; "" for an earlier run."""
        return self.origin.removeprefix(_PROFILE) if self.origin.startswith(_PROFILE) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFileOptions:
    """The options as given. *values* is `--set`, *names* is `--map`; *kept* is what a profile says beside them."""

    command: str | None = None
    values: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    id_column: str | None = None
    date_format: str | None = None
    time_zone: str | None = None
    server_time_zone: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    sheet: str | None = None
    format: str | None = None
    where: tuple[str, ...] = ()
    limit: int | None = None
    skip_invalid: bool = False
    allow_duplicates: bool = False
    kept: SavedMapping | None = None


_FIELDS = {"map": "names", "set": "values"}
_PROFILE = "profile "
_FORM = ("encoding", "delimiter", "sheet")
SAVED = frozenset(_FIELDS.get(name, name) for name in (*LISTS, *TEXTS))
"""The fields of `JobFileOptions` that `save` keeps in a profile."""
_TYPED = tuple(f"--{name.replace('_', '-')}" for name in (*LISTS, *TEXTS))


def with_saved_mapping(job_file: JobFileOptions, profile: Profile) -> JobFileOptions:
    """*job_file* and what *profile* keeps; both count."""
    return replace(
        job_file, kept=SavedMapping(f"profile {profile.name}", profile.path, profile.files) if profile.name else None
    )


def with_profile_mapping(job_file: JobFileOptions, servers: Servers, *, save: bool) -> JobFileOptions:
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
    return with_saved_mapping(job_file, profile)


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
    typed, kept = entries_of(_typed(job_file), target.commands), entries_of(job_file.kept.options)
    options = options_of(together(kept, typed, target))
    # sorted, as the journal compares them: typed or kept makes no difference
    lists: dict[str, Any] = {_FIELDS[name]: tuple(sorted(options.get(name, ()))) for name in LISTS}
    texts: dict[str, Any] = {name: options.get(name) for name in TEXTS}
    return replace(job_file, kept=None, **lists, **texts)


def words_for(job_file: JobFileOptions, table: Table, command: type[Command] | None) -> tuple[str, str]:
    """What the profile says of *table*, rows of *command*, and a line about what of that counts; "" for nothing."""
    if job_file.kept is None:
        return "", ""
    target = _target(job_file, table)
    typed, kept = entries_of(_typed(job_file), target.commands), entries_of(job_file.kept.options)
    target = _narrowed(target, command)
    every, words = (describe(in_use(kept, beside, target)) for beside in ({}, typed))
    return every, words and f"mapping of {job_file.kept.origin}: {words}"


def save(job_file: JobFileOptions, examined: OpenJobFile) -> str:
    """Save what was typed in the profile in use; the line that says so. The header of *examined* fits it.

    `examined.kept` says then what is kept now. Raises `SettingsError` when it cannot be written.
    """
    kept, target = job_file.kept, _target(job_file, examined.table)
    if kept is None or not kept.profile:
        raise SettingsError("there is no profile to save in", code="settings")
    typed = entries_of(_typed(job_file), target.commands)
    save_files(
        kept.path,
        kept.profile,
        lambda there: options_of(to_keep(entries_of(there), typed, target)),
    )
    after = to_keep(entries_of(kept.options), typed, target)
    examined.kept = describe(in_use(after, {}, _narrowed(target, examined.command)))
    return f"saved in {kept.origin} ({kept.path}): {told_saved(typed)}"


def file_lines(examined: OpenJobFile, rows: int, saved: str = "", *, name: str = "") -> list[str]:
    """What the file is, what is in doubt about it, and what mapping it is read by; *saved* is what `save` says."""
    remarks = (*examined.format.doubts, examined.mapping, saved)
    return [f"{name or examined.name}: {examined.describe(rows)}", *(f"  {line}" for line in remarks if line)]


@contextmanager
def blaming(kept: SavedMapping | None) -> Iterator[None]:
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


def _concerns(error: JobFileError | SettingsError, kept: SavedMapping) -> bool:
    return error.code == "header" or any(name.replace("_", "-") in error.message for name in kept.options)


def _typed(job_file: JobFileOptions) -> dict[str, str | Sequence[str]]:
    given = {name: getattr(job_file, _FIELDS.get(name, name)) for name in (*LISTS, *TEXTS)}
    return {name: value for name, value in given.items() if value is not None and value != ()}


def _target(job_file: JobFileOptions, table: Table) -> Target:
    named = find(job_file.command)
    return Target(table.format.kind, table.header, [named] if named else list(all_commands().values()))


def _narrowed(target: Target, command: type[Command] | None) -> Target:
    return target._replace(commands=[command]) if command else target


@dataclass(frozen=True, slots=True)
class ColumnView:
    """A column of a file: its *name*, what it is read as ("" for left alone), why (*origin*), its first cells.

    *origin* is `named` as the field is called, `chosen` by the user or the profile, `guessed`, or "".
    """

    name: str
    field: str
    origin: str
    samples: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnsView:
    """The columns of a file that is read as *command*, and what D3 needs that none of them is (*missing*).

    *fields* are those of the command by D3's name, *needed* those that must be there. *dates* are the formats that the
    due dates may be written in, each with how it reads the first of them.
    """

    command: str
    form: str
    columns: tuple[ColumnView, ...]
    fields: Mapping[str, str]
    needed: frozenset[str]
    missing: tuple[str, ...]
    dates: tuple[tuple[str, str], ...]


_SAMPLES = 3
_LOOKED_AT = 200


def view_columns(file: Path, job_file: JobFileOptions) -> ColumnsView:
    """What the columns of *file* are, or may be. Raises `JobFileError` for what cannot be a job file."""
    opened: dict[str, Any] = {**form(job_file)}
    with open_table(file, kind=job_file.format, **opened) as table:
        rows = [row for row in islice(table, _LOOKED_AT) if isinstance(row, Row)]
        keys = tuple(table.header) or tuple(dict.fromkeys(key for row in rows for key in row.keys))
        command = find(job_file.command) or likely(keys)
        texts = {key: _samples(rows, key) for key in keys}
        chosen = {bare(name): field for name, field in pairs(job_file.names, "--map").items()}
        columns = tuple(_view(found, chosen, texts[found.key]) for found in guess(keys, command))
        fields = {name: str(info.alias) for name, info in command.model_fields.items()}
        needed = frozenset(name for name, info in command.model_fields.items() if info.is_required())
        filled = {meaning(name, [command]) for name in pairs(job_file.values, "--set")}
        read = {column.field for column in columns}
        due = next((texts[column.name] for column in columns if column.field == _DUE), ())
        return ColumnsView(
            command=command.__name__,
            form=table.format.describe(),
            columns=columns,
            fields=fields,
            needed=needed,
            missing=tuple(name for name in fields if name in needed - read - filled),
            dates=_date_formats(due),
        )


def _view(found: Guess, chosen: Mapping[str, str], cells: Sequence[str]) -> ColumnView:
    shown = tuple(cells[:_SAMPLES])
    if bare(found.key) in chosen:
        return ColumnView(found.key, chosen[bare(found.key)], "chosen", shown)
    origin = "named" if found.sure else "guessed" if found.field else ""
    return ColumnView(found.key, found.field, origin, shown)


def _samples(rows: Sequence[Row], key: str) -> list[str]:
    cells = [str(row.cells[row.keys.index(key)]) for row in rows if key in row.keys[: len(row.cells)]]
    return [cell for cell in cells if cell.strip()]


def _date_formats(cells: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The formats that each of *cells* may be written in, and how they read the first one."""
    found = [choices for cell in cells if (choices := formats_of(cell.strip()))]
    if not found:
        return ()
    common = [choice for choice in found[0] if all(choice in choices for choices in found)]
    return tuple((choice, spoken_date(cells, choice)) for choice in common or found[0])


def spoken_date(cells: Sequence[str], date_format: str) -> str:
    """`03/04/2026 is 3 April 2026`, of the first of *cells* that is written so."""
    pattern = strptime_pattern(date_format)
    for cell in cells:
        with suppress(ValueError):
            day = datetime.strptime(cell.strip(), pattern)  # noqa: DTZ007 - only its day is shown
            return f"{cell.strip()} is {day.day} {day:%B %Y}"
    return ""


def chosen_names(columns: Sequence[tuple[str, str]], command: str) -> tuple[str, ...]:
    """`--map` for *columns*, each with the field that a user chose for it, "" to leave it alone.

    Nothing is said of a column that is called as its field is, or that is like none and is left alone.
    """
    found = {one.key: one for one in guess([name for name, _ in columns], all_commands()[command])}
    return tuple(
        f"{name}={field}" for name, field in columns if found[name].field != field or (field and not found[name].sure)
    )


if TYPE_CHECKING:
    Said = dict[tuple[str, str], "MappingEntry"]
