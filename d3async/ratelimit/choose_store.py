"""Which store a limit is shared through: a database that is named, else a file of this host."""

from __future__ import annotations

import importlib.util
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from d3async.config.credentials import Secret
from d3async.config.database_urls import LimitUrl, limit_url
from d3async.errors import SettingsError
from d3async.ratelimit.shared_limiter import SharedLimit
from d3async.ratelimit.store_protocol import LimitStore, StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from d3async.config.credentials import Credentials


class LimitSettings(Protocol):
    """What of the settings is needed here."""

    @property
    def base_url(self) -> str:
        """Where D3 is."""

    @property
    def credentials(self) -> Credentials:
        """Keys, tokens and signing secrets."""

    @property
    def limit_url(self) -> LimitUrl | None:
        """The database that shares the limit with other machines."""

    @property
    def share_limit(self) -> bool:
        """Whether it is shared at all."""


def limit_key(settings: LimitSettings) -> str:
    """What a limit is shared by: D3's base URL and a fingerprint of the credentials, which does not give them away."""
    return f"{settings.base_url} {settings.credentials.fingerprint(settings.base_url)}"


@asynccontextmanager
async def limit_database(url: Secret | str) -> AsyncIterator[LimitStore]:
    """A store for as many `shared_limit`s of this process as it needs: they go through one connection.

    Raises SettingsError where *url* is none, or psycopg is missing. A database that is down is waited for.
    """
    async with _database(url) as store:
        yield store


@asynccontextmanager
async def shared_limit(
    where: LimitSettings | LimitStore | Secret | str, key: str = "", *, tell: Callable[[str], None] | None = None
) -> AsyncIterator[SharedLimit]:
    """This process's share of the limit *key*, for `Limiter(share=…)`.

    *where* is a database's URL, what `limit_database` gave, or settings with a `limit_url`; of these *key* may be left
    out. *tell* hears when the database is lost and when it is back; without it the log does. Raises SettingsError.
    """
    async with AsyncExitStack() as stack:
        if isinstance(where, (str, Secret)):
            store = await stack.enter_async_context(_database(where))
        elif isinstance(where, LimitStore):
            store = where
        else:
            key = key or limit_key(where)
            store = await stack.enter_async_context(_database(where.limit_url or ""))
        yield await stack.enter_async_context(_share(store, key, tell))


def library_share(settings: LimitSettings) -> SharedLimit | None:
    """The share of a client that was made with *settings*: through their database, else none."""
    if settings.limit_url is None or not settings.share_limit:
        return None
    return SharedLimit(_database(settings.limit_url), limit_key(settings), owned=True)


def host_share(settings: LimitSettings, tell: Callable[[str], None]) -> SharedLimit | None:
    """The share of a program of this user: through the settings' database, else through a file of this host.

    None where the settings say so, and where the file cannot be used; of that *tell* hears why.
    """
    if not settings.share_limit:
        return None
    if settings.limit_url is not None:
        return SharedLimit(_database(settings.limit_url), limit_key(settings), owned=True, tell=tell)
    from d3async.ratelimit.sqlite_store import SqliteStore, host_file, on_network  # noqa: PLC0415 - only who shares through a file pays for it

    path = host_file()
    try:
        if on_network(path):
            raise StoreError("it is on a network share")  # noqa: TRY301 - one word for all that makes it unusable
        return SharedLimit(SqliteStore(path), limit_key(settings), owned=True, tell=tell)
    except StoreError as error:
        tell(f"the limit is not shared with other runs here: {path}: {error.message} (--no-share-limit says no to it)")
        return None


def _share(store: LimitStore, key: str, tell: Callable[[str], None] | None) -> SharedLimit:
    return SharedLimit(store, key) if tell is None else SharedLimit(store, key, tell=tell)


def _database(url: Secret | str) -> LimitStore:
    try:
        checked = limit_url(url)
    except ValueError as error:
        raise SettingsError(f"the URL of the limit's database {error}", code="limit_url") from None
    if importlib.util.find_spec("psycopg") is None:
        raise SettingsError("D3_LIMIT_URL needs: pip install 'd3async[fleet]'", code="limit_url")
    from d3async.ratelimit.postgres_store import PostgresStore  # noqa: PLC0415 - an extra: only who uses it pays

    return PostgresStore(checked)
