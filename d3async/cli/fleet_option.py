"""`--fleet URL`, and what commands that know run folders do where it is given."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from d3async.fleet.address import find, installed, needed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from d3async.fleet.address import Address
    from d3async.journal.postgres.read import PostgresReader
    from d3async.journal.read import JournalReader

    AnyReader = JournalReader | PostgresReader

F = TypeVar("F", bound="Callable[..., Any]")


def fleet_option(function: F) -> F:
    """Add `--fleet`; *function* gets it as *fleet*, None where it was not given: see `fleet_address`."""
    return click.option("--fleet", metavar="URL", help="The fleet's PostgreSQL (D3_FLEET_URL, D3_FLEET_URL_FILE).")(
        function
    )


def fleet_address(option: str | None) -> Address:
    """The fleet that `--fleet` or the environment names. Raises `SettingsError` where none does."""
    return needed(option, os.environ)


def meant(target: Path | None, option: str | None) -> Address | None:
    """The fleet that a command about *target* is about; None where it is about a run folder.

    `--fleet` says so, or the environment where *target* is nothing that is here. Raises `SettingsError`.
    """
    if option is None and target is not None and target.exists():
        return None
    return find(option, os.environ)


@contextmanager
def opened(target: Path, address: Address | None) -> Iterator[AnyReader]:
    """The reader of the run called *target* in the fleet at *address*, or of the run folder *target*.

    Raises `JournalError` where there is none, `SettingsError` where a fleet needs more than is installed.
    """
    from d3async.cli.folders import JOURNAL, run_folder  # noqa: PLC0415 - `--help` need not load it
    from d3async.journal.read import JournalReader  # noqa: PLC0415 - as above

    if address is None:
        with JournalReader(run_folder(target) / JOURNAL) as reader:
            yield reader
        return
    with installed():
        from d3async.journal.postgres.read import PostgresReader  # noqa: PLC0415 - for those who have a fleet

        with PostgresReader(address.conninfo, str(target)) as found:
            yield found


def fleet_words(option: str | None, address: Address) -> str:
    """What is to be typed behind a command to reach the same fleet: nothing where the environment says it."""
    return f" --fleet {address}" if option else ""
