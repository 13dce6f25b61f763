"""Which column of a job file is which field of a command, and what is said about those that are nearly one."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING

from d3async.d3.commands import all_commands, plain
from d3async.errors import JobFileError
from d3async.jobs.job import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from d3async.d3.commands import Command

SITE, USERNAME, COMMAND, PROFILE = "Site", "Username", "command", "profile"
ENVELOPE = (SITE, USERNAME, COMMAND, PROFILE)
RESULTS_COLUMNS = frozenset(
    {
        "_row", "_line", "_outcome", "_code", "_message", "_http", "_attempts", "_sent_at", "_done_at",
        "_items_ok", "_items_failed", "_items_unknown",
    }
)  # fmt: skip
_INVISIBLE = str.maketrans("", "", "\ufeff\u200b\u200c\u200d\u2060\xad\"'")
_FAR = 2
_LONG = 9
_SHORT = 3


@dataclass(frozen=True, slots=True)
class Naming:
    """What the user said about columns: *renames* (`--map`, theirs to ours, "" for none of ours), *filled* (`--set`).

    *key* is `--id-column`.
    """

    renames: Mapping[str, str] = field(default_factory=dict)
    filled: frozenset[str] = frozenset()
    key: str | None = None


def bare(name: str) -> str:
    """*name* as names are compared: no case, blanks, line breaks, `_`, `-`, quotes, nothing that can't be seen."""
    return plain("".join(name.translate(_INVISIBLE).split()))


def known_names(commands: Iterable[type[Command]]) -> dict[str, str]:
    """What each bare name means for *commands*: a field, or one of `ENVELOPE`."""
    names = {bare(name): name for name in ENVELOPE}
    for command in commands:
        names.update(_names(command))
    return names


@cache
def _names(command: type[Command]) -> tuple[tuple[str, str], ...]:
    """Our and D3's bare names of the fields of *command*, each with the field."""
    fields = command.model_fields.items()
    return tuple((bare(spelt), name) for name, info in fields for spelt in (name, info.alias or name))


def meaning(name: str, commands: Iterable[type[Command]]) -> str:
    """The field or `ENVELOPE` name that the user calls *name*. Raises `JobFileError` with a suggestion."""
    names = known_names(commands)
    found = names.get(bare(name))
    if found is None:
        close = _closest(name, names)
        hint = f': did you mean "{close}"?' if close else ""
        raise JobFileError(f'no column is called "{name}"{hint}', code="header")
    return found


@dataclass(frozen=True, slots=True)
class Columns:
    """Where columns stand: *at* gives the place of a field or `ENVELOPE` name, *key* that of the id column."""

    at: Mapping[str, int]
    key: int | None
    problems: tuple[Problem, ...]


def match(
    keys: Sequence[str], commands: Iterable[type[Command]], naming: Naming, others: Iterable[type[Command]] = ()
) -> Columns:
    """Find the columns of *commands* among *keys*; what is wrong with the header comes back as problems.

    A column of *others*, commands that rows of the same file may ask for, is no near miss.
    """
    names = known_names(commands)
    theirs_too = known_names(others)
    renames = {bare(theirs): ours for theirs, ours in naming.renames.items()}
    at: dict[str, int] = {}
    kept: list[str] = []
    problems = [*_reserved(keys)]
    for place, key in enumerate(keys):
        name = bare(key)
        target = renames[name] if name in renames else names.get(name)
        if not target:
            kept += [key] * (name not in renames)
        elif target in at:
            problems.append(_twice(keys[at[target]], key, target))
        else:
            at[target] = place
    open_names = {name: target for name, target in names.items() if target not in at}
    key_at = _place(keys, naming.key) if naming.key is not None else None
    problems += _repeated(kept)
    problems += [problem for key in kept if bare(key) not in theirs_too and (problem := _near(key, open_names))]
    if naming.key is not None and key_at is None:
        problems.append(
            Problem("id", naming.key, "", "is not in the header", f"--id-column names one of: {listed(keys)}")
        )
    return Columns(at, key_at, tuple(problems))


def missing(command: type[Command], columns: Columns, naming: Naming) -> tuple[Problem, ...]:
    """The required columns of *command* that are neither in the file nor set."""
    suspects = {problem.code for problem in columns.problems}
    return tuple(
        _missing(command, name)
        for name in _required(command)
        if name not in columns.at and name not in naming.filled and name not in suspects
    )


def choose(keys: Sequence[str], naming: Naming) -> type[Command]:
    """The one command whose columns *keys* are, or nearly are. Raises `JobFileError` when that is none or several."""
    complete, scores = [], {}
    for command in all_commands().values():
        required = set(_required(command))
        columns = match(keys, [command], naming)
        found = required & (columns.at.keys() | naming.filled)
        near = required & {problem.code for problem in columns.problems}
        complete += [command] * (found == required)
        scores[command] = len(found | near) / len(required)
    if len(complete) == 1:
        return complete[0]
    nearest, *others = sorted(scores, key=lambda command: -scores[command])
    best, second = scores[nearest], max((scores[other] for other in others), default=0)
    if not complete and best > second and (best >= 1 / 2 or not second):
        return nearest
    raise JobFileError(
        f"the columns ({listed(keys)}) do not say which command is meant: give --command"
        f" ({', '.join(all_commands())}), or begin with d3async template",
        code="header",
    )


def routed(keys: Sequence[str], naming: Naming) -> bool:
    """Whether rows below *keys* may name a profile, or all of them are given one."""
    return PROFILE in naming.filled or PROFILE in match(keys, (), naming).at


def listed(keys: Sequence[str], most: int = 12) -> str:
    """*keys* for people, cut where they are many."""
    return ", ".join(key.strip()[:40] for key in keys[:most]) + (" …" if len(keys) > most else "")


_ALIASES = {
    "incident": "incident,incidentid,incidentnr,incidentno,incidentkey,caseid,casenumber,ticket,ticketid,ticketnumber,"
    "parent,parentkey,parentincident,vorfall,vorfallnr,vorfallnummer,vorfallsnummer,ticketnummer,"
    "numerodincident,nodincident,numerodeincidente,incidente,incidentnummer,meldingnummer",
    "name": "name,task,tasktitle,title,summary,subject,shortdescription,aufgabe,aufgabenname,titel,betreff,tache,"
    "nomdelatache,titre,objet,tarea,nombredelatarea,titulo,asunto,taak,taaknaam,onderwerp",
    "type": "type,tasktype,category,issuetype,aufgabentyp,aufgabenart,art,kategorie,typ,typedetache,categorie,"
    "tipodetarea,tipo,categoria,taaktype,soort",
    "description": "description,details,detail,comment,comments,notes,beschreibung,bemerkung,bemerkungen,notizen,"
    "commentaire,remarques,descripcion,detalles,comentario,omschrijving,beschrijving,opmerking",
    "assignee": "assignee,assignedto,assigned,owner,responsible,bearbeiter,zugewiesenan,zustandig,zustandiger,"
    "verantwortlich,verantwortlicher,assignea,assigne,responsable,attribuea,asignadoa,asignado,encargado,"
    "toegewezenaan,behandelaar,verantwoordelijke,eigenaar",
    "due": "due,duedate,dueby,dueat,deadline,targetdate,falligkeit,falligam,fallig,fallligkeitsdatum,falligkeitsdatum,"
    "bis,termin,frist,echeance,dateecheance,datedecheance,datelimite,fechalimite,vencimiento,fechadevencimiento,"
    "plazo,vervaldatum,einddatum,termijn",
    "required": "required,mandatory,pflicht,pflichtaufgabe,erforderlich,obligatoire,requis,obligatorio,requerido,"
    "verplicht,vereist",
    "source": "source,sourceincident,parent,parentincident,incident,incidentid,quelle,quellvorfall,vorfall,"
    "incidentsource,incidenteorigen,origen,bron,bronincident",
    "linked": "linked,linkedincident,linkedincidents,relatedincidents,related,child,childincident,children,"
    "verknupft,verknupftevorfalle,verknupftervorfall,incidentslies,incidentlie,lies,incidentesvinculados,vinculados,"
    "gekoppeld,gekoppeldeincidenten",
}
"""What columns are called elsewhere, without case, blanks and accents: English, German, French, Spanish, Dutch, and
exports of Jira, ServiceNow and Sentinel. A name in it is a guess, which a user must confirm."""


@dataclass(frozen=True, slots=True)
class Guess:
    """What the column *key* may be: a *field* of the command, "" for none. A *sure* one is called as the field is."""

    key: str
    field: str
    sure: bool


def guess(keys: Sequence[str], command: type[Command]) -> list[Guess]:
    """What each of *keys* may be of *command*. No field is guessed twice: of two candidates none is taken."""
    known = known_names([command])
    sure = {key: known[bare(key)] for key in keys if bare(key) in known}
    open_fields = {name: field for name, field in known.items() if field not in sure.values()}
    wanted = {key: _alias(key, open_fields) for key in keys if key not in sure}
    often = list(wanted.values())
    return [
        Guess(key, sure[key], sure=True)
        if key in sure
        else Guess(key, wanted[key] if often.count(wanted[key]) == 1 else "", sure=False)
        for key in keys
    ]


def _alias(key: str, open_fields: Mapping[str, str]) -> str:
    letters = unicodedata.normalize("NFKD", bare(key).replace("ß", "ss"))
    name = "".join(letter for letter in letters if letter.isalnum())
    fields = [field for field in dict.fromkeys(open_fields.values()) if name in _ALIASES.get(field, "").split(",")]
    if fields:
        return fields[0]
    near = _near(key, {known: field for known, field in open_fields.items() if field not in ENVELOPE})
    return next((field for field in open_fields.values() if near and field.casefold() == near.code), "")


def likely(keys: Sequence[str]) -> type[Command]:
    """The command of which *keys* may have the most columns, as a guess."""
    commands = all_commands().values()
    return max(commands, key=lambda one: len({found.field for found in guess(keys, one)} & set(_required(one))))


def _required(command: type[Command]) -> list[str]:
    return [name for name, info in command.model_fields.items() if info.is_required()]


def place_of(name: str, keys: Sequence[str], columns: Columns) -> int | None:
    """The position of the column that the user calls *name*, by its own name or by ours."""
    place = _place(keys, name)
    return place if place is not None else columns.at.get(known_names(all_commands().values()).get(bare(name), ""))


def _place(keys: Sequence[str], wanted: str) -> int | None:
    same = [place for place, key in enumerate(keys) if bare(key) == bare(wanted)]
    return next((place for place in same if keys[place] == wanted), same[0] if same else None)


def _reserved(keys: Sequence[str]) -> list[Problem]:
    cure = "this looks like a results.csv: take the failed.csv beside it, or remove the columns that begin with _"
    return [
        Problem("header", key, "", "is a column of d3async's own results", cure)
        for key in keys
        if key.strip().casefold() in RESULTS_COLUMNS
    ]


def _twice(first: str, second: str, target: str) -> Problem:
    cure = f"remove one, or leave it out with --map '{second}='"
    if first.strip() == second.strip():
        return Problem(target.casefold(), second, "", "is in the header twice", "remove one, or rename it")
    return Problem(target.casefold(), second, "", f'means the same as "{first}"', cure)


def _repeated(others: Sequence[str]) -> list[Problem]:
    counts: dict[str, int] = {}
    for other in others:
        counts[other.strip()] = counts.get(other.strip(), 0) + 1
    return [
        Problem("header", name, "", "is in the header twice", "remove one, or rename it")
        for name, count in counts.items()
        if name and count > 1
    ]


def _near(key: str, names: Mapping[str, str]) -> Problem | None:
    name = bare(key)
    target = next((target for known, target in names.items() if _is_near(name, known)), None)
    if target is None:
        return None
    cure = f"rename it or give --map '{key}={target}'; --map '{key}=' leaves it as it is"
    return Problem(target.casefold(), key, "", f'is no known column: did you mean "{target}"?', cure)


def _is_near(name: str, known: str) -> bool:
    shorter = min(len(name), len(known))
    far = _FAR if shorter >= _LONG else 1
    # one change gives or takes a letter on each side at most: most names differ by that alone
    if shorter < _SHORT or abs(len(name) - len(known)) > far or len(set(name) ^ set(known)) > 2 * far:
        return False
    return distance(name, known) <= far


def distance(one: str, other: str) -> int:
    """How many letters must be put in, taken out, changed or swapped with their neighbour to make one the other."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, last, row = row, before, [i]
        for j, b in enumerate(other, 1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                best = min(best, last[j - 2] + 1)
            row.append(best)
    return row[-1]


def _missing(command: type[Command], name: str) -> Problem:
    cure = f"--map 'YOUR COLUMN={name}' says which column it is, --set '{name}=…' fills it"
    return Problem(name, name, "", f'(D3: "{command.parameter(name)}") is missing', cure)


def _closest(name: str, names: Mapping[str, str]) -> str | None:
    found = get_close_matches(bare(name), list(names), n=1, cutoff=0.6)
    return names[found[0]] if found else None
