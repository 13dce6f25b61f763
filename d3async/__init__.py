"""An asyncio client and bulk runner for the D3 SOAR command API."""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` takes half as long to import as Python to start
if TYPE_CHECKING:
    from d3async import sandbox as sandbox
    from d3async.client import D3Client as D3Client
    from d3async.config.settings import Settings as Settings
    from d3async.d3.commands.create_task import CreateTask as CreateTask
    from d3async.d3.commands.remove_linked_incidents import RemoveLinkedIncidents as RemoveLinkedIncidents
    from d3async.engine.observers import Observer as Observer
    from d3async.errors import D3Error as D3Error
    from d3async.errors import FolderGoneError as FolderGoneError
    from d3async.errors import FolderHeldError as FolderHeldError
    from d3async.errors import JobFileError as JobFileError
    from d3async.errors import JournalError as JournalError
    from d3async.errors import LookAlikeError as LookAlikeError
    from d3async.errors import NotSentError as NotSentError
    from d3async.errors import RefusedError as RefusedError
    from d3async.errors import SettingsError as SettingsError
    from d3async.errors import SimilarPair as SimilarPair
    from d3async.errors import ThrottledError as ThrottledError
    from d3async.errors import UnauthorizedError as UnauthorizedError
    from d3async.errors import UnknownOutcomeError as UnknownOutcomeError
    from d3async.journal.model import JobOutcome as JobOutcome

__version__ = "0.1.0"

_HOMES = {
    "CreateTask": "d3async.d3.commands.create_task",
    "D3Client": "d3async.client",
    "D3Error": "d3async.errors",
    "FolderGoneError": "d3async.errors",
    "FolderHeldError": "d3async.errors",
    "JobFileError": "d3async.errors",
    "JobOutcome": "d3async.journal.model",
    "JournalError": "d3async.errors",
    "LookAlikeError": "d3async.errors",
    "NotSentError": "d3async.errors",
    "Observer": "d3async.engine.observers",
    "RefusedError": "d3async.errors",
    "RemoveLinkedIncidents": "d3async.d3.commands.remove_linked_incidents",
    "Settings": "d3async.config.settings",
    "SettingsError": "d3async.errors",
    "SimilarPair": "d3async.errors",
    "ThrottledError": "d3async.errors",
    "UnauthorizedError": "d3async.errors",
    "UnknownOutcomeError": "d3async.errors",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for: `d3async --help` must not wait for aiohttp and pydantic."""
    import importlib  # noqa: PLC0415 - not needed by `d3async --help`

    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name == "sandbox":
        return importlib.import_module("d3async.sandbox")
    raise AttributeError(f"module 'd3async' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*_HOMES, "__version__", "sandbox"])
