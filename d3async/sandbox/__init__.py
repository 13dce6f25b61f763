"""A D3 look-alike on this machine: `async with serve() as url:`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from d3async.sandbox.server import Sandbox, serve

__all__ = ["Sandbox", "serve"]


def __getattr__(name: str) -> Any:
    # aiohttp is imported when a server is wanted, not by `import d3async.sandbox`.
    if name in __all__:
        return getattr(import_module("d3async.sandbox.server"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
