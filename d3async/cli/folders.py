"""The run folder a command was given, or what to give instead."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from d3async.errors import JournalError

JOURNAL = "journal.sqlite"

folder_argument = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))


def run_folder(given: Path) -> Path:
    """*given*, if it is a run folder. Raises `JournalError` that names the one that may have been meant."""
    if (given / JOURNAL).is_file():
        return given
    if given.name == JOURNAL and given.is_file():
        raise JournalError(f"{given} is the journal of a run folder: give the folder, {given.parent}")
    beside = given.parent / f"{given.stem}.d3run"
    if beside != given and (beside / JOURNAL).is_file():
        what = "is a job file" if given.is_file() else "is no run folder"
        raise JournalError(f"{given} {what}; its run folder is {beside}")
    if not given.exists():
        raise JournalError(f"There is no {given}{_instead(given.parent)}")
    if given.is_file():
        raise JournalError(f"{given} is a file, and has no run folder yet: d3async run {given}")
    raise JournalError(f"{given} is no run folder: it has no {JOURNAL}{_instead(given)}")


def _instead(place: Path) -> str:
    found = sorted(path.parent for path in place.glob(f"*/{JOURNAL}"))[:3] if place.is_dir() else []
    if not found:
        return "; `d3async run FILE` makes a run folder, FILE.d3run"
    return f"; here are {', '.join(str(path) for path in found)}" if len(found) > 1 else f"; here is {found[0]}"


def quiet_stdout() -> None:
    """After a broken pipe: keep the interpreter from complaining about it when it ends."""
    import os  # noqa: PLC0415 - only after a broken pipe

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
