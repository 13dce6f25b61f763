"""What was typed about a file's columns and cells, what a profile keeps of that, and which of the two counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from d3async.commands import all_commands
from d3async.errors import SettingsError
from d3async.sansio.headers import bare, known_names, meaning

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from d3async.commands.base import Command

    Options = Mapping[str, str | Sequence[str]]
    """Options by name: `map` and `set` are lists of `NAME=VALUE`, the others one text."""
    Said = dict[tuple[str, str], "Entry"]

_FORM = {"encoding": {"csv", "jsonl"}, "delimiter": {"csv"}, "sheet": {"xlsx"}}
"""The kinds of files that an option about their form is for."""
_DATES = {"date_format": "", "time_zone": "in ", "server_time_zone": "sent in "}
_DUE = "due"


class Entry(NamedTuple):
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


def said(options: Options, commands: Collection[type[Command]] = ()) -> Said:
    """What *options* say, each thing by what it is about; of two that are about the same the later one counts.

    Raises `SettingsError` for what is no `NAME=VALUE`, `JobFileError` for a column that none of *commands* has.
    """
    commands = commands or all_commands().values()
    found: Said = {}
    for option, told in options.items():
        if isinstance(told, str):
            found[option, ""] = Entry(option, "", told)
            continue
        for name, value in pairs(told, f"--{option}").items():
            if option == "map":
                found[option, bare(name)] = Entry(option, name, value, value and meaning(value, commands))
            else:
                column = meaning(name, commands)
                found[option, column] = Entry(option, name, value, column)
    return found


def in_use(kept: Said, typed: Said, target: Target) -> Said:
    """What of *kept* counts for *target*: what fits it and is not overruled by *typed*.

    A header that the file has not, a column of another command, the separator of a workbook are left out: one profile
    serves many files. The id column is not: without it rows that are done would be new ones.
    """
    known = set(known_names(target.commands).values())
    here = set(map(bare, target.header))

    def fits(entry: Entry) -> bool:
        if entry.option == "map" and here and bare(entry.name) not in here:
            return False
        if entry.option in _DATES and _DUE not in known:
            return False
        return (not entry.field or entry.field in known) and target.kind in _FORM.get(entry.option, {target.kind})

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


def told(found: Said) -> str:
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
    return "; ".join(filter(None, [told(_without(typed, set(empty))), *gone]))
