"""The request a call stands for, and in whose name it is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from d3async.commands import all_commands
from d3async.sansio import protocol

if TYPE_CHECKING:
    from d3async.sansio.call import Call
    from d3async.sansio.protocol import ApiRequest


@dataclass(frozen=True, slots=True)
class Account:
    """Who asks, where a call does not say itself."""

    username: str
    site: str

    def speaking_for(self, call: Call) -> dict[str, str]:
        """*username* and *site* of the envelope of *call*."""
        return {"username": call.username or self.username, "site": call.site or self.site}


def request_for(call: Call, *, username: str, site: str) -> ApiRequest:
    """The request *call* stands for, made by *username* in *site*; its items go back under D3's name for them."""
    params = call.params
    if call.items:
        kind = all_commands()[call.command]
        params = {kind.parameter(kind.items or ""): list(call.items), **params}
    return protocol.envelope(call.command, params, username=username, site=site)
