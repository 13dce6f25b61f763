"""A 401 about one incident: is it the key, or may this user not see that incident? Another row is tried alone.

D3's page: "Authentication failed or user does not have permissions".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from d3async.d3.call import normalize_number
from d3async.d3.response import Refused, Reply, Unauthorized

if TYPE_CHECKING:
    from d3async.d3.call import Call
    from d3async.d3.response import Answer

MOST_SET_ASIDE = 1000
"""Rows that may be set aside while another one is looked for that can be tried."""
_OK = 200


class _Access(NamedTuple):
    command: str
    username: str | None


class RefusedAccess:
    """What was refused with 401 and not explained yet, of one D3; at most one row is on its way to find out.

    Refusals of another command or user are explained by rows of their own.
    """

    def __init__(self) -> None:
        self._incidents: dict[_Access, set[str]] = {}
        self._probe: tuple[_Access, str, int] | None = None

    @property
    def in_doubt(self) -> bool:
        """Whether any refusal is not explained."""
        return bool(self._incidents)

    def may_go(self, call: Call) -> bool:
        """Whether *call* may be sent now: while there is a doubt, one at a time, about another incident."""
        if not self._incidents:
            return True
        if self._probe is not None:
            return self._probe == _key(call)
        access, incident, _ = _key(call)
        return access in self._incidents and incident not in self._incidents[access]

    def admit(self, call: Call) -> bool:
        """`may_go`, and note that *call* is sent if it may."""
        may = self.may_go(call)
        if may and self._incidents:
            self._probe = _key(call)
        return may

    def came(self, call: Call, answer: Answer | None) -> Literal["accepted", "refused", "tried", ""]:
        """What the answer to *call* says of refusals of its command and user; None is a call that was not sent.

        `accepted`: the key is good, the refused rows are to blame. `refused`: the key is not accepted. `tried`: it
        does not say, another row has to be tried. "": it was sent before there was a doubt.
        """
        access, incident, _ = _key(call)
        probe = self._probe == _key(call)
        if probe:
            self._probe = None
        if isinstance(answer, Unauthorized):
            self._incidents.setdefault(access, set()).add(incident)
            return "refused" if probe else ""
        if probe and (isinstance(answer, Reply) or (isinstance(answer, Refused) and answer.status == _OK)):
            del self._incidents[access]
            return "accepted"
        return "tried" if probe else ""


def same_access(one: Call, other: Call) -> bool:
    """Whether both calls are of one command and user."""
    return _key(one)[0] == _key(other)[0]


def _key(call: Call) -> tuple[_Access, str, int]:
    return _Access(call.command, call.username), normalize_number(call.label), call.job
