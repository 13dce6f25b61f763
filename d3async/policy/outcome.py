"""An answer, for good, becomes an outcome for each row and item; what is not proven is never called ok."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from d3async.d3.call import folded, normalize_number
from d3async.d3.commands import all_commands
from d3async.d3.response import AmbiguousAnswer, Refused, Reply, Throttled, TransportFailure, Unauthorized
from d3async.errors import ConservationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from d3async.d3.call import Call
    from d3async.d3.response import Answer

OUTCOMES = ("ok", "partial", "failed", "unknown", "invalid", "unsent")
NOT_LINKED = "not_linked"


@dataclass(frozen=True, slots=True)
class ItemOutcome:
    """What became of one item."""

    item: str
    outcome: Literal["ok", "failed", "unknown"]
    code: str = ""
    message: str = ""


class Verdict(NamedTuple):
    """What became of a call. *items* has one entry for each item of the call, in its order; none without items.

    *anomalies* is what the answer said beyond that, in words, for `_message`.
    """

    outcome: Literal["ok", "partial", "failed", "unknown"]
    code: str = ""
    message: str = ""
    http: int | None = None
    items: tuple[ItemOutcome, ...] = ()
    anomalies: tuple[str, ...] = ()


def judge(call: Call, answer: Answer) -> Verdict:
    """The verdict on *call* from the last word about it.

    Raises `ConservationError` if an item was lost or made up on the way: a defect of ours, never of D3's.
    """
    if isinstance(answer, Reply):
        verdict = _judge_items(call, answer) if call.items else _judge_whole(call, answer)
    else:
        verdict = _without_reply(call, answer)
    if tuple([item.item for item in verdict.items]) != call.items:
        raise ConservationError(f"{len(call.items)} items were asked for, {len(verdict.items)} came back")
    return verdict


def _judge_whole(call: Call, reply: Reply) -> Verdict:
    if reply.status == "ok" and not reply.errors and not reply.nameless:
        known = all_commands().get(call.command)
        oddities = known.oddities(call.params, reply.data) if known else ()
        return Verdict("ok", http=200, anomalies=reply.anomalies + oddities)
    texts = "; ".join(error.message for error in reply.errors)
    if reply.status == "failed":
        if call.maybe:
            return Verdict("unknown", "command_error", _earlier(texts), 200, anomalies=reply.anomalies)
        return Verdict("failed", "command_error", texts, 200, anomalies=reply.anomalies)
    message = f"D3 answered {reply.status} with errors for a command that has no items: {texts or 'no reason'}"
    return Verdict("unknown", "bad_response", message, 200, anomalies=reply.anomalies)


def _without_reply(
    call: Call, answer: Refused | Unauthorized | Throttled | AmbiguousAnswer | TransportFailure
) -> Verdict:
    code, status, doubt = _meaning(answer)
    items = tuple(_item_without_reply(item, code, answer.message, call, doubt=doubt) for item in call.items)
    if items:
        outcome = sum_up(Counter(item.outcome for item in items))
        return Verdict(outcome, code, first_trouble(items)[1], status, items)
    outcome = "unknown" if doubt or call.maybe else "failed"
    return Verdict(outcome, code, _earlier(answer.message) if call.maybe and not doubt else answer.message, status)


def _meaning(
    answer: Refused | Unauthorized | Throttled | AmbiguousAnswer | TransportFailure,
) -> tuple[str, int | None, bool]:
    """Code, HTTP status, and whether it may have happened."""
    match answer:
        case TransportFailure():
            return answer.code, answer.status, answer.sent
        case AmbiguousAnswer():
            return answer.code, answer.status, True
        case Refused():
            return answer.code, answer.status, False
        case Unauthorized():
            return "unauthorized", 401, False
        case Throttled():
            return "throttled", 429, False


def _item_without_reply(item: str, code: str, message: str, call: Call, *, doubt: bool) -> ItemOutcome:
    if doubt:
        return ItemOutcome(item, "unknown", code, message)
    if normalize_number(item) in call.tried:
        return ItemOutcome(item, "unknown", code, _earlier(message))
    return ItemOutcome(item, "failed", code, message)


def _earlier(message: str) -> str:
    return f"{message} An earlier attempt may have reached D3 all the same."


def _judge_items(call: Call, reply: Reply) -> Verdict:
    asked = {normalize_number(item) for item in call.items}
    listed: dict[str, str] = {}
    anomalies = list(reply.anomalies)
    for error in reply.errors:
        number = normalize_number(error.incident)
        if number not in asked:
            anomalies.append(f"ErrorData speaks of {error.incident}, which was not asked for: {error.message}")
        elif number in listed:
            anomalies.append(f"ErrorData lists {error.incident} again: {error.message}")
        else:
            listed[number] = error.message
    anomalies += _contradictions(call, reply, listed)
    proof = _Evidence(reply, listed, None if reply.remaining is None else folded(reply.remaining))
    items = tuple(_judge_item(item, proof, call) for item in call.items)
    outcome = sum_up(Counter(item.outcome for item in items))
    code, message = first_trouble(items)
    return Verdict(outcome, code, message, 200, items, tuple(anomalies))


def _contradictions(call: Call, reply: Reply, listed: Mapping[str, str]) -> list[str]:
    if reply.status == "ok" and listed:
        return ['Status says "Successful" beside ErrorData']
    if reply.status == "partial" and not listed:
        return ['Status says "Partially Successful" but ErrorData names none of the incidents asked for']
    if reply.status == "partial" and len(listed) == len(call.items):
        return ['Status says "Partially Successful" but ErrorData names every incident asked for']
    if reply.status == "failed" and 0 < len(listed) < len(call.items):
        return ['Status says "Failed" but ErrorData does not name every incident asked for']
    return []


@dataclass(frozen=True, slots=True)
class _Evidence:
    reply: Reply
    listed: Mapping[str, str]
    remaining: frozenset[str] | None

    @property
    def nameless(self) -> bool:
        """Something failed and the answer does not say which."""
        return self.reply.nameless or (self.reply.status == "partial" and not self.listed)


def _judge_item(item: str, proof: _Evidence, call: Call) -> ItemOutcome:
    number = normalize_number(item)
    if number in proof.listed:
        return _listed(item, proof.listed[number], removed=number in call.tried | call.gone)
    if proof.remaining is not None and number in proof.remaining:
        return ItemOutcome(item, "failed", "still_linked", "D3 reports no error, yet lists it as still linked.")
    if proof.reply.status == "failed":
        if proof.remaining is not None or number in call.tried:
            return ItemOutcome(item, "unknown", "contradiction", "D3 answered Failed, yet nothing says so of this one.")
        return ItemOutcome(item, "failed", "command_error", "D3 answered Failed and gave no reason for this incident.")
    if proof.nameless:
        return ItemOutcome(item, "unknown", "bad_response", "D3 reports an error without saying for which incident.")
    return ItemOutcome(item, "ok")


def _listed(item: str, said: str, *, removed: bool) -> ItemOutcome:
    if "not linked" not in said.casefold():
        return ItemOutcome(item, "failed", "item_error", said)
    if removed:
        return ItemOutcome(item, "ok", "removed_before", "Gone after an earlier attempt of ours.")
    return ItemOutcome(item, "failed", NOT_LINKED, said)


def sum_up(items: Mapping[str, int]) -> Literal["ok", "partial", "failed", "unknown"]:
    """The outcome of a row with so many items of each outcome: all ok, all failed, any unknown, else partial."""
    if items.get("unknown"):
        return "unknown"
    if not items.get("failed"):
        return "ok"
    return "partial" if items.get("ok") else "failed"


def first_trouble(items: Iterable[ItemOutcome], most: int = 3) -> tuple[str, str]:
    """`_code` and `_message` of a row from its items: the worst item's code, the first *most* texts."""
    trouble = [item for item in items if item.outcome != "ok"]
    if not trouble:
        return "", ""
    worst = next((item for item in trouble if item.outcome == "unknown"), trouble[0])
    codes = {item.code for item in trouble}
    code = worst.code if worst.outcome == "unknown" or len(codes) == 1 else "item_error"
    texts = [f"{item.item}: {item.message}" for item in trouble[:most]]
    if len(trouble) > most:
        texts.append(f"and {len(trouble) - most} more")
    return code, "; ".join(texts)


class RowResult(NamedTuple):
    """What became of a row with items so far: *row* is its number, *items* how many of them are ok, failed, unknown.

    The outcome is `pending` while some of its items are still to be sent.
    """

    row: int
    outcome: str
    code: str
    message: str
    items: tuple[int, int, int]

    @property
    def incomplete(self) -> bool:
        """Whether some of its items are still to be sent."""
        return self.outcome == "pending"


def row_result(row: int, waiting: int, counts: Mapping[str, int], trouble: Iterable[ItemOutcome]) -> RowResult:
    """The result of *row* after a call with items of it; *waiting* of its items are still to be sent.

    *counts* are its items by state, *trouble* those failed or unknown, in order; neither matters while items wait.
    Raises `ConservationError` when none waits and one has no outcome.
    """
    if waiting:
        return RowResult(row, "pending", "", f"{waiting} of its items are not sent yet.", (0, 0, 0))
    items = (counts.get("ok", 0), counts.get("failed", 0), counts.get("unknown", 0))
    if sum(items) != sum(counts.values()):
        raise ConservationError(f"Row {row} has items without an outcome: {dict(counts)}")
    return RowResult(row, sum_up(counts), *first_trouble(trouble), items)


def row_from_items(
    counts: Mapping[str, int], trouble: Iterable[ItemOutcome], *, looked_up: tuple[str, str] | None = None
) -> tuple[str, str | None, str | None]:
    """State, code and message of a row from its items, none of them in flight: *counts* by state, *trouble* in order.

    *looked_up*: the items were looked at again; code and message of a row all of whose items are ok now.
    """
    code, message = first_trouble(trouble)
    if counts.get("pending") and not counts.get("unknown"):
        # some items were never sent: the row waits for the next run with them
        return ("pending", None, None) if looked_up is None else ("pending", code, message)
    outcome = sum_up(counts)
    if outcome == "ok" and looked_up is not None:
        return outcome, *looked_up
    return outcome, code, message


def check_rows(rows: int, outcomes: Mapping[str, int]) -> None:
    """Assert the conservation law of a run: rows read = the sum of all outcomes. Raises `ConservationError`."""
    total = sum(outcomes.get(outcome, 0) for outcome in OUTCOMES)
    if total != rows or set(outcomes) - set(OUTCOMES):
        raise ConservationError(f"{rows} rows were read, {total} have an outcome: {dict(outcomes)}")
