"""Look-alikes on the command line: the option that allows them, the question, and what `--fresh` asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from d3async.cli.console import is_interactive, say
from d3async.sansio.look_alikes import ALL, Lines, described, parse_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from d3async.cli.examined import Examined
    from d3async.cli.servers import Homes, Servers
    from d3async.journal.similar_rows import Similar
    from d3async.journal.sqlite import RunFolder

F = TypeVar("F", bound="Callable[..., Any]")


class _LinesType(click.ParamType[Lines]):
    name = "lines"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, Lines):
            return value
        try:
            return parse_lines([value])
        except ValueError as error:
            self.fail(str(error), param, ctx)


def allow_similar_option(function: F) -> F:
    """Add `--allow-similar`."""
    text = "New rows on these lines are meant, although they look like rows sent before."
    return click.option(
        "--allow-similar", type=_LinesType(), default=Lines(), show_default=False, metavar="LINES|all", help=text
    )(function)


def by_server(homes: Homes) -> Mapping[str, list[str]]:
    """The D3s of *homes* by base URL, each with its profiles; "" is for rows without one."""
    found: dict[str, list[str]] = {}
    for profile, settings in homes.items():
        found.setdefault(settings.base_url, []).append(profile or "")
    return found


def agreed_to_similar(similar: Similar, *, ask: bool) -> bool:
    """Whether the rows are meant; asks on a terminal, if it may. Raises `LookAlikeError` where it cannot."""
    if not similar.count:
        return True
    if not (ask and is_interactive()):
        raise similar.error()
    for line in described(similar.pairs, similar.count, similar.lines):
        say(line)
    rows, they = ("this row", "It") if similar.count == 1 else (f"these {similar.count:,} rows", "They")
    return bool(click.confirm(f"Send {rows} all the same? {they} may then be in D3 twice.", err=True))


def agreed_to_fresh(folder: RunFolder, allowed: Lines, *, ask: bool) -> bool:
    """Whether rows that were sent from *folder* may be sent again. Raises `SettingsError` where nobody can be asked."""
    from d3async.errors import SettingsError  # noqa: PLC0415 - `--help` need not load it

    count = folder.count_sent()
    if not count or allowed == ALL:
        return True
    sent = f"{count:,} row{' was' if count == 1 else 's were'} sent from {folder.folder}"
    if not (ask and is_interactive()):
        raise SettingsError(
            f"{sent}; --fresh would send the same rows of the file again. To send only what is new, run it without"
            " --fresh. If they are meant to be in D3 twice: --fresh --allow-similar all",
            code="fresh",
        )
    return bool(click.confirm(f"{sent}. Start anew and send rows that are in the file again?", err=True))


def similar_to_sent(
    examined: Examined, path: Path | None, servers: Servers, *, allow_duplicates: bool, allowed: Lines
) -> Similar:
    """What `run` over the same file, with the run folder *path*, would stop for; nothing is kept of it.

    Where settings are missing, only what the run folder holds is known.
    """
    from d3async.cli.loading import finished, homes_of  # noqa: PLC0415 - as above
    from d3async.errors import FolderHeldError  # noqa: PLC0415 - as above
    from d3async.journal.look_alike_guard import LookAlikeGuard, knows_any  # noqa: PLC0415 - as above
    from d3async.journal.similar_rows import NOTHING_SIMILAR  # noqa: PLC0415 - as above
    from d3async.journal.sqlite import FILE, Selection, in_memory, open_folder  # noqa: PLC0415 - as above

    there = path is not None and (path / FILE).is_file()
    if not there and not knows_any(say):
        return NOTHING_SIMILAR
    try:
        folder = open_folder(path) if there and path is not None else in_memory()
    except FolderHeldError as error:
        say(f"Not compared with rows that were sent before: {error.message}")
        return NOTHING_SIMILAR
    try:
        own = servers.own_if_any()
        if finished(folder, examined, servers, own) is not None:
            return NOTHING_SIMILAR
        stage = folder.stage()
        stage.add(examined)
        for _ in stage.duplicates(allow=allow_duplicates):
            pass
        places = by_server(homes_of(stage, servers, own))
        if None in stage.profiles() and own is None:
            places = {**places, folder.meta().get("base_url", ""): [""]}
        folder.adopt({})
        folder.begin(Selection(), now=0.0, facts={})
        with LookAlikeGuard(folder, places, tell=say, change=False) as guard:
            return guard.find(allowed)
    finally:
        folder.abandon()
