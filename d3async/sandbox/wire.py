"""How an answer, or what is left of it, reaches the caller."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from aiohttp import web

from d3async.sandbox import hostile
from d3async.sandbox.answers import JSON, Answer
from d3async.sandbox.faults import Fault

_STILL_THERE = 0.5


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds: *hang_for* until a hanging request is answered after all, *drip* between the bytes of a slow answer."""

    hang_for: float = 3600.0
    drip: float = 0.2


def send(answer: Answer) -> web.Response:
    """Answer the way a server should."""
    headers = {"Content-Type": answer.content_type}
    headers.update(answer.headers)
    return web.Response(status=answer.status, body=answer.body, headers=headers)


async def fail(
    fault: Fault, request: web.BaseRequest, answer: Answer, pace: Pace, stopping: asyncio.Event
) -> web.StreamResponse:
    """Let *fault* happen to the sending of *answer*."""
    match fault.kind:
        case "cut":
            return cut(request, answer)
        case "hang":
            return await hang(request, stopping, answer, pace)
        case "drip":
            return await drip(request, stopping, answer, pace)
        case "huge":
            return await stream(request, hostile.huge_body())
        case "bomb":
            return await stream(request, hostile.gzip_bomb(), encoding="gzip")
        case _:
            return drop(request)


def drop(request: web.BaseRequest) -> web.Response:
    """Close the connection without a word."""
    if request.transport is not None:
        request.transport.close()
    return web.Response()


def cut(request: web.BaseRequest, answer: Answer) -> web.Response:
    """Promise the whole body, send half of it and close."""
    head = f"HTTP/1.1 {answer.status} OK\r\nContent-Type: {JSON}\r\nContent-Length: {len(answer.body)}\r\n\r\n"
    if request.transport is not None:
        request.transport.write(head.encode() + answer.body[: len(answer.body) // 2])
    return drop(request)


async def hang(request: web.BaseRequest, stopping: asyncio.Event, answer: Answer, pace: Pace) -> web.Response:
    """Keep the caller waiting until he has gone, the server stops, or *pace* has run out."""
    if await _wait(request, stopping, pace.hang_for):
        return send(answer)
    return drop(request)


async def drip(request: web.BaseRequest, stopping: asyncio.Event, answer: Answer, pace: Pace) -> web.StreamResponse:
    """Send the body byte by byte."""
    response = web.StreamResponse(headers={"Content-Type": JSON, "Content-Length": str(len(answer.body))})
    try:
        await response.prepare(request)
        for byte in answer.body:
            if not await _wait(request, stopping, pace.drip):
                return drop(request)
            await response.write(bytes((byte,)))
    except ConnectionError:
        return drop(request)
    return response


async def stream(request: web.BaseRequest, pieces: Iterable[bytes], *, encoding: str = "") -> web.StreamResponse:
    """Send *pieces* as one answer, until the caller has had enough."""
    response = web.StreamResponse(headers={"Content-Type": JSON} | ({"Content-Encoding": encoding} if encoding else {}))
    try:
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(0)
    except ConnectionError:
        return drop(request)
    return response


def connected(request: web.BaseRequest) -> bool:
    """Tell whether the caller is still there to hear the answer."""
    transport = request.transport
    return transport is not None and not transport.is_closing()


async def _wait(request: web.BaseRequest, stopping: asyncio.Event, seconds: float) -> bool:
    """Wait; False when the caller went away or the server stops first."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while (left := end - loop.time()) > 0:
        try:
            async with asyncio.timeout(min(left, _STILL_THERE)):
                await stopping.wait()
        except TimeoutError:
            pass
        if stopping.is_set() or not connected(request):
            return False
    return True
