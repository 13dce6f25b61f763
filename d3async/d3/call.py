"""One call of a command: what it asks for, which rows and items it carries, the request it becomes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from unicodedata import normalize

from d3async.d3.commands import all_commands

if TYPE_CHECKING:
    from collections.abc import Iterable


def composed(text: str) -> str:
    """*text* in Unicode's form C: a file saved by a tool that takes letters apart says the same."""
    return text if text.isascii() else normalize("NFC", text)


class JsonObject(Mapping[str, Any]):
    """A JSON object as its *text*, which is parsed when it is read: most are only sent on."""

    __slots__ = ("_read", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._read: dict[str, Any] | None = None

    def _fields(self) -> dict[str, Any]:
        if self._read is None:
            self._read = json.loads(self.text)
        return self._read

    def __getitem__(self, name: str) -> Any:
        plain = self._plain(name) if self._read is None else None
        return self._fields()[name] if plain is None else plain

    def _plain(self, name: str) -> str | None:
        """The text under *name*, found without reading all there is; None where only reading it will tell.

        In an object without another one in it, nothing but a key is between a quote and a quote with a colon.
        """
        if self.text.count("{") != 1:
            return None
        before, found, rest = self.text.partition(f'"{name}":"')
        value, ended, _ = rest.partition('"')
        return value if found and ended and before[-1:] != "\\" and "\\" not in value else None

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields())

    def __len__(self) -> int:
        return len(self._fields())

    def __repr__(self) -> str:
        return f"JsonObject({self.text!r})"


class Call(NamedTuple):
    """One request, carrying one row, or several items of one source.

    *params* is `CommandParams` without the list of items, *items* that list. Items are compared case-folded.
    *tried* holds the items that an earlier attempt of ours may have removed; *maybe* says the same of a call without
    items. *gone* holds those whose absence is our doing: removed under another row or from the other end of the link,
    or found still linked after an attempt in doubt, which may have been carried out later. *job* is the row's id in the
    journal, 0 for a call of items: by its *source* the journal knows which rows an item belongs to. *row* is the data
    row in the file, of several one that takes part.
    """

    command: str
    params: Mapping[str, Any]
    username: str | None
    site: str
    source: int
    label: str
    job: int = 0
    items: tuple[str, ...] = ()
    tried: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()
    maybe: bool = False
    row: int | None = None

    def halves(self) -> tuple[Call, Call]:
        """Two calls that carry what this one carries."""
        middle = (len(self.items) + 1) // 2
        return self._replace(items=self.items[:middle]), self._replace(items=self.items[middle:])

    def after_doubt(self) -> Call:
        """The same call once an attempt of it may have reached D3."""
        return self._replace(tried=self.tried | {normalize_number(item) for item in self.items}, maybe=True)


def normalize_number(number: str) -> str:
    """An incident number as numbers are compared: blanks around it, letter case and Unicode's form do not matter."""
    if number.isascii():
        return number.strip().casefold()
    return composed(composed(number).strip().casefold())


def folded(numbers: Iterable[str]) -> frozenset[str]:
    """Each of *numbers* as `fold` gives it; an answer may list tens of thousands."""
    known = list(numbers)
    if all(map(str.isascii, known)):
        return frozenset(map(str.casefold, map(str.strip, known)))
    return frozenset(map(normalize_number, known))


API_PATH = "/api/Command/"
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class ApiRequest(NamedTuple):
    """One POST: *command* is D3's name (the last part of the URL), *body* the JSON envelope."""

    command: str
    body: bytes


def envelope(command: str, params: Mapping[str, Any], *, username: str, site: str) -> ApiRequest:
    """The request for *command*: D3's envelope with `Username`, `Site` and `CommandParams`."""
    text = params.text if isinstance(params, JsonObject) else _ENCODER.encode(params)
    return ApiRequest(command, f"{_opening(username, site)}{text}}}".encode())


@lru_cache(maxsize=64)
def _opening(username: str, site: str) -> str:
    return f'{{"Username":{_ENCODER.encode(username)},"Site":{_ENCODER.encode(site)},"CommandParams":'


@dataclass(frozen=True, slots=True)
class Account:
    """Who asks, where a call does not say itself."""

    username: str
    site: str

    def speaking_for(self, call: Call) -> dict[str, str]:
        """*username* and *site* of the envelope of *call*."""
        return {"username": call.username or self.username, "site": call.site or self.site}


def request_for(call: Call, *, username: str, site: str) -> ApiRequest:
    """The request of *call*, made by *username* in *site*; its items go back under D3's name for them."""
    params = call.params
    if call.items:
        kind = all_commands()[call.command]
        params = {kind.parameter(kind.items or ""): list(call.items), **params}
    return envelope(call.command, params, username=username, site=site)
