"""An answer's headers and body, as far as anybody wants to hold them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from d3async.sansio.protocol import Broken

if TYPE_CHECKING:
    from aiohttp import StreamReader
    from multidict import MultiMapping

MAX_ANSWER = 16 * 1024 * 1024
"""Bytes of an answer, after decompression, that are read at most."""
_CHUNK = 64 * 1024
_LARGE = 512 * 1024
_LARGE_AT_ONCE = 2
"""Answers beyond `_LARGE` bytes that are read at the same time: the others wait on the wire, not in memory."""


class BodyReader:
    """Reads the bodies of one transport's answers."""

    def __init__(self) -> None:
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)

    async def read(self, content: StreamReader) -> bytes | None:
        """The whole body; None when there is more of it than `MAX_ANSWER`, and the rest is still to come."""
        chunk = await content.readany()
        if content.at_eof():
            return chunk
        chunks = bytearray()
        async with AsyncExitStack() as turn:
            while chunk:
                if len(chunks) <= _LARGE < len(chunks) + len(chunk):
                    await turn.enter_async_context(self._large)
                chunks += chunk
                if len(chunks) > MAX_ANSWER:
                    return None
                chunk = await content.read(_CHUNK)
        return bytes(chunks)


def too_large(status: int) -> Broken:
    """What an answer beyond `MAX_ANSWER` comes to."""
    message = f"The answer is longer than {MAX_ANSWER // 1024 // 1024} MiB."
    return Broken(sent=True, code="answer_too_large", message=message, status=status)


class LowerCase(Mapping[str, str]):
    """*headers* by their lower-case names, repeated ones joined (RFC 9110 section 5.2): for most, nobody asks."""

    __slots__ = ("_headers",)

    def __init__(self, headers: MultiMapping[str]) -> None:
        self._headers = headers

    def __getitem__(self, name: str) -> str:
        return ", ".join(self._headers.getall(name))

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(map(str.lower, self._headers)))

    def __len__(self) -> int:
        return len(set(map(str.lower, self._headers)))
