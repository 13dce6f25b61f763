"""What the doctor finds of what several processes share: the limit's database or file, and the fleet's database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from d3async.cli.findings import Finding
from d3async.cli.network_findings import PATIENCE, within
from d3async.errors import D3Error, JournalError, SettingsError
from d3async.fleet.address import find, installed
from d3async.shared_limit.base import StoreError
from d3async.shared_limit.host import host_file, on_network
from d3async.shared_limit.share import UNSEEN
from d3async.shared_limit.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from d3async.fleet.address import Address
    from d3async.limit_url import LimitUrl
    from d3async.shared_limit.trial import Trial

_LIMIT = "shared limit"
_ALONE = f"until it can be used, each process goes on with its part of the rate, one that starts now with 1/{UNSEEN}"
_GO_ON = "runs go on, and none knows of the others"
_REACH = "is the URL right? Does the server run, does a firewall let this machine through?"
_CURES = {
    "forbidden": "grant the role CREATE in the schema, or all rights to d3async_limit and d3async_limit_member",
    "read_only": "a standby, or set to read only: name the server that is written to",
    "too_slow": "a database nearer by, or one with less to do",
}


def of_limit(values: Mapping[str, Any]) -> Iterator[Finding]:
    """How the limit is shared with other processes, and whether that works; nothing where *values* do not say."""
    if not {"limit_url", "share_limit"} <= values.keys():
        return
    url: LimitUrl | None = values["limit_url"]
    if not values["share_limit"]:
        idle = f"; {url} is not used" if url else ""
        yield Finding(
            _LIMIT,
            "note",
            f"off (D3_SHARE_LIMIT, --no-share-limit or the profile): every run has the whole rate to itself{idle}",
        )
    elif url is None:
        yield of_file(host_file())
    else:
        yield of_database(url)


def of_file(path: Path) -> Finding:
    """Whether the processes of this user on this host can share their limit through *path*."""
    try:
        if on_network(path):
            raise StoreError("it is on a network share")  # noqa: TRY301 - one word for all that makes it unusable
        anyio.run(_written, path)
    except StoreError as error:
        cure = f"let {path} be written, or say no to it: D3_SHARE_LIMIT=no, --no-share-limit"
        return Finding(_LIMIT, "bad", f"{path} cannot be used ({error.message}): {_GO_ON}", cure)
    return Finding(_LIMIT, "ok", f"with your other processes on this host, through {path}, which can be written")


async def _written(path: Path) -> None:
    async with SqliteStore(path) as store:
        await store.leave("doctor", "doctor")


def of_database(url: LimitUrl) -> Finding:
    """Whether the database at *url* can share a limit, and how fast it does."""
    try:
        with installed():
            from d3async.shared_limit.trial import tried  # noqa: PLC0415 - an extra
        found = within(PATIENCE, lambda: tried(url))
    except SettingsError:
        return Finding(_LIMIT, "bad", f"{url} needs a driver: no run starts without", "pip install 'd3async[fleet]'")
    except StoreError as error:
        return Finding(_LIMIT, "bad", f"{url}: {error.message}; {_ALONE}", _CURES.get(error.code, _REACH))
    except TimeoutError:
        return Finding(_LIMIT, "bad", f"{url} does not answer; {_ALONE}", _REACH)
    return judged(found, str(url))


def judged(found: Trial, place: str) -> Finding:
    """What *found* means for those who share their limit through *place*."""
    text = f"{place}, a reservation takes {found.round_trip * 1000:.1f} ms"
    if found.too_slow:
        return Finding(_LIMIT, "bad", f"{text}, which counts as lost; {_ALONE}", _CURES["too_slow"])
    tables = "its tables are there" if found.made else "the first run makes its tables"
    side = "ahead of" if found.ahead > 0 else "behind"
    clock = f"its clock is {abs(found.ahead):.1f} s {side} this one, which does no harm"
    return Finding(_LIMIT, "ok", f"{text}; {tables}; {clock}")


def of_fleet(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether the fleet that *environ* names can be reached, and is one that this d3async knows."""
    try:
        address = find(None, environ)
        if address is None:
            return
        with installed():
            yield Finding("fleet", "ok", within(PATIENCE, lambda: _reached(address)))
    except JournalError as error:
        yield _of_journal(error)
    except TimeoutError:
        yield Finding("fleet", "bad", f"{address} does not answer", _REACH)
    except D3Error as error:
        yield Finding("fleet", "bad", error.message)


def _reached(address: Address) -> str:
    from d3async.fleet.connecting import round_trip  # noqa: PLC0415 - an extra

    took = round_trip(address) * 1000
    return f"{address}, its tables are those this d3async knows; a question takes {took:.1f} ms"


def _of_journal(error: JournalError) -> Finding:
    if error.code == "journal_missing":
        return Finding("fleet", "note", error.message)
    return Finding("fleet", "bad", error.message, _REACH if error.code == "fleet" else "")
