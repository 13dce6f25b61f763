"""`--fleet URL`, and what commands that know run folders do where it is given."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from d3async.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from d3async.fleet.address import Address

_EXTRA = frozenset({"procrastinate", "prometheus_client", "psycopg", "psycopg_pool"})
F = TypeVar("F", bound="Callable[..., Any]")


def fleet_option(function: F) -> F:
    """Add `--fleet`; *function* gets it as *fleet*, None where it was not given: see `fleet_address`."""
    return click.option("--fleet", metavar="URL", help="The fleet's PostgreSQL (D3_FLEET_URL, D3_FLEET_URL_FILE).")(
        function
    )


@contextmanager
def installed() -> Iterator[None]:
    """A block that needs the extra `fleet`. Raises `SettingsError` with how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        raise SettingsError("A fleet needs more than the core: pip install 'd3async[fleet]'", code="extra") from None


def fleet_address(option: str | None) -> Address:
    """The fleet that `--fleet` or the environment names. Raises `SettingsError` where none does."""
    from d3async.fleet.address import needed  # noqa: PLC0415 - for those who have a fleet

    return needed(option, os.environ)


def fleet_words(option: str | None, address: Address) -> str:
    """What is to be typed behind a command to reach the same fleet: nothing where the environment says it."""
    return f" --fleet {address}" if option else ""
