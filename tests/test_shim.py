"""The shim of conftest.py goes as soon as it is not needed any more."""

import aiohttp
import pytest
from aioresponses import aioresponses


@pytest.mark.asyncio
async def test_aioresponses_still_needs_the_shim() -> None:
    """Fails once a fixed aioresponses is installed: then take `ResponseWithWriter` out of tests/conftest.py."""
    with aioresponses() as mocked:
        mocked.post("http://127.0.0.1:9/x", status=200)
        async with aiohttp.ClientSession() as session:
            with pytest.raises(TypeError, match="stream_writer"):
                await session.post("http://127.0.0.1:9/x")
