"""What goes wrong with which request: by share, by script, or by rule."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from d3async.sandbox.commands import Ask

Kind = Literal["error", "drop", "hang", "cut", "page", "redirect", "mangle", "raw", "huge", "drip", "bomb", "headers"]
Plan = Mapping[str, float] | Sequence[str | None] | Callable[[Ask], str | None]
"""Shares by fault name; or a fault (or None) for each request in turn; or a rule."""

REMOVE = "RemoveLinkedIncidents"
MAX_LIST = "max-list"
_ERROR = re.compile(r"error-([45]\d\d)(?:-(before|after))?")


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to go wrong; *effect* tells whether the command is carried out all the same."""

    name: str
    kind: Kind
    says: str
    effect: bool = True
    only: str | None = None
    """The one command that it can hit."""
    status: int = 0


_ALL = (
    Fault("drop-before", "drop", "the connection closes without an answer", effect=False),
    Fault("drop-after", "drop", "the connection closes without an answer, the command was carried out"),
    Fault("hang", "hang", "no answer comes, the command was carried out"),
    Fault("hang-before", "hang", "no answer comes", effect=False),
    Fault("cut-body", "cut", "the answer ends in the middle"),
    Fault("html-200", "page", "a login page with status 200", effect=False, status=200),
    Fault("redirect", "redirect", "a 307 to another host", effect=False, status=307),
    Fault("foreign-error-data", "mangle", "ErrorData names an incident nobody asked for", only=REMOVE),
    Fault("repeated-error-data", "mangle", "ErrorData says everything twice", only=REMOVE),
    Fault("missing-error-data", "mangle", "ErrorData is left out", only=REMOVE),
    Fault("odd-case-error-data", "mangle", "ErrorData in another letter case, keys and numbers", only=REMOVE),
    Fault("other-data-key", "mangle", "Data under a key worded differently", only=REMOVE),
    Fault("wrong-status", "mangle", "a Status that contradicts ErrorData", only=REMOVE),
    Fault("still-linked", "mangle", "the first link stays, Data shows it, no error says so", only=REMOVE),
    Fault("string-return-data", "mangle", "returnData is JSON inside a string", only=REMOVE),
    Fault("empty-answer", "mangle", "error and returnData are both empty", effect=False),
    Fault("ansi-message", "mangle", "an error text full of terminal escapes", effect=False),
    Fault("deep-json", "raw", "arrays nested 100,000 deep"),
    Fault("invalid-utf8", "raw", "bytes that are no UTF-8 inside a string"),
    Fault("duplicate-keys", "raw", "every key twice, the second time saying the opposite"),
    Fault("huge-body", "huge", "an answer of 256 MB"),
    Fault("slow-drip", "drip", "the answer byte by byte"),
    Fault("gzip-bomb", "bomb", "256 KB that unpack to 256 MB"),
    Fault("set-cookie", "headers", "an answer that sets a cookie"),
    Fault("giant-header", "headers", "an answer with a header of 1 MB"),
)
FAULTS: Mapping[str, Fault] = {fault.name: fault for fault in _ALL}


def find_fault(name: str) -> Fault:
    """Give the fault of that name, `error-NNN[-before|-after]` included; raises ValueError."""
    if name in FAULTS:
        return FAULTS[name]
    if match := _ERROR.fullmatch(name):
        after = match[2] == "after"
        says = f"status {match[1]}" + (", the command was carried out" if after else "")
        return Fault(name, "error", says, effect=after, status=int(match[1]))
    raise ValueError(f"no fault {name!r}; there are {', '.join(FAULTS)}, error-NNN-before, error-NNN-after, {MAX_LIST}")


class Faults:
    """Picks the fault for each request. *draw* gives numbers in [0, 1); raises ValueError for a plan that cannot be."""

    def __init__(self, plan: Plan | None, draw: Callable[[], float]) -> None:
        self._draw = draw
        self._rule: Callable[[Ask], str | None] = lambda _: None
        self.max_list = 0
        match plan:
            case None:
                pass
            case Mapping():
                self._rule = self._by_share(plan)
            case Sequence():
                self._rule = _by_script(plan)
            case _:
                self._rule = plan

    def pick(self, ask: Ask) -> Fault | None:
        """Decide over one request; a fault that cannot hit its command is none."""
        name = self._rule(ask)
        fault = find_fault(name) if name else None
        return fault if fault and fault.only in {None, ask.command} else None

    def _by_share(self, plan: Mapping[str, float]) -> Callable[[Ask], str | None]:
        shares = {find_fault(name): share for name, share in plan.items() if name != MAX_LIST}
        self.max_list = int(plan.get(MAX_LIST, 0))
        if any(not 0 <= share <= 1 for share in shares.values()) or sum(shares.values()) > 1 + 1e-9:
            raise ValueError("shares lie between 0 and 1, and all together are at most 1")

        def rule(ask: Ask) -> str | None:
            left = self._draw() if shares else 1.0
            for fault, share in shares.items():
                if fault.only in {None, ask.command}:
                    left -= share
                    if left < 0:
                        return fault.name
            return None

        return rule


def _by_script(plan: Sequence[str | None]) -> Callable[[Ask], str | None]:
    for name in filter(None, plan):
        find_fault(name)
    script = iter(plan)
    return lambda _: next(script, None)
