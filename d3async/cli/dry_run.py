"""The requests of a run as they would be sent, secrets masked; nothing is sent."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from d3async.journal.store import Store
from d3async.sansio.protocol import API_PATH
from d3async.sansio.request import Account, request_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from d3async.cli.plan import Plan
    from d3async.cli.servers import Server
    from d3async.journal.sqlite import RunFolder
    from d3async.sansio.call import Call

_PAGE = 200


def requests(folder: RunFolder, plan: Plan, links_per_call: int) -> Iterator[dict[str, Any]]:
    """Each request of *plan* as JSON, its secrets masked. The folder's transaction is left to be undone."""
    store = Store(folder.db, epoch=folder.epoch)
    for server in plan.servers:
        account = Account(server.settings.username, server.settings.site)
        for call in _calls(store, server.profile, links_per_call):
            yield _request(call, account, server)


def _calls(store: Store, profile: str | None, links_per_call: int) -> Iterator[Call]:
    after = -1
    while lanes := store.lanes(after, _PAGE, profile):
        after = lanes[-1][0]
        for lane, call in lanes:
            if call is not None:
                yield call
                continue
            while (found := store.take(lane, links_per_call)) is not None:
                yield found
                store.claim(found, time.time())


def _request(call: Call, account: Account, server: Server) -> dict[str, Any]:
    request = request_for(call, **account.speaking_for(call))
    return {
        **({} if server.profile is None else {"profile": server.profile}),
        "method": "POST",
        "url": f"{server.settings.base_url}{API_PATH}{request.command}",
        "headers": {"Content-Type": "application/json", server.settings.api_key_header: "***"},
        "body": json.loads(request.body),
    }
