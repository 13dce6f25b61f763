"""What all tests share: a shim that lets aioresponses live with the aiohttp that is installed."""

from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aioresponses import aioresponses
from aioresponses import core as aioresponses_core


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
