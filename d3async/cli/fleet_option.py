"""`--fleet URL`, and what commands that know run folders do where it is given."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

import click

from d3async.cli.folders import run_folder
from d3async.fleet.address import find, installed, needed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from d3async.fleet.address import Address
    from d3async.operations.settle import FleetRun

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


def fleet_words(option: str | None, address: Address) -> str:
    """What is to be typed behind a command to reach the same fleet: nothing where the environment says it."""
    return f" --fleet {address}" if option else ""


def run_or_folder(target: Path, option: str | None) -> Path | FleetRun:
    """The run folder, or the run of the fleet, that *target* names. Raises `SettingsError` and `JournalError`."""
    address = meant(target, option)
    if address is None:
        return run_folder(target)
    from d3async.operations.settle import FleetRun  # noqa: PLC0415 - `--help` need not load it

    with installed():
        return FleetRun(address.conninfo, str(target))
