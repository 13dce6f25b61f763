"""What D3 can be asked: one file a command, found by being here."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from d3async.commands.base import Command

if TYPE_CHECKING:
    from collections.abc import Mapping


@cache
def all_commands() -> Mapping[str, type[Command]]:
    """Every command of this package, by D3's name."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    found = sorted(Command.__subclasses__(), key=lambda command: command.__name__)
    return MappingProxyType({command.__name__: command for command in found if command.__module__.startswith(__name__)})


def find(name: object) -> type[Command] | None:
    """The command called *name*, in any case, with or without dashes, blanks and underscores."""
    if not isinstance(name, str):
        return None
    wanted = plain(name)
    return next((command for known, command in all_commands().items() if plain(known) == wanted), None)


def plain(name: str) -> str:
    """*name* as names are compared: without regard to case, blanks, `_` and `-`."""
    return "".join(letter for letter in name if letter not in " _-\t").casefold()
