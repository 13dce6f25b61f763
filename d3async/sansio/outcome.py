"""An answer, for good, becomes an outcome for each row and item; what is not proven is never called ok."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from d3async.errors import ConservationError
from d3async.sansio.call import fold
from d3async.sansio.protocol import Broken, Doubtful, Refused, Reply, Throttled, Unauthorized

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from d3async.sansio.call import Call
    from d3async.sansio.protocol import Answer

OUTCOMES = ("ok", "partial", "failed", "unknown", "invalid", "unsent")
NOT_LINKED = "not_linked"


@dataclass(frozen=True, slots=True)
class ItemOutcome:
    """What became of one item."""

    item: str
    outcome: Literal["ok", "failed", "unknown"]
    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
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
        verdict = _judge_items(call, answer) if call.items else _judge_whole(answer)
    else:
        verdict = _without_reply(call, answer)
    if tuple(item.item for item in verdict.items) != call.items:
        raise ConservationError(f"{len(call.items)} items were asked for, {len(verdict.items)} came back")
    return verdict


def _judge_whole(reply: Reply) -> Verdict:
    if reply.status == "ok" and not reply.errors:
        return Verdict("ok", http=200, anomalies=reply.anomalies)
    texts = "; ".join(error.message for error in reply.errors)
    if reply.status == "failed":
        return Verdict("failed", "command_error", texts, 200, anomalies=reply.anomalies)
    message = f"D3 answered {reply.status} with errors for a command that has no items: {texts or 'no reason'}"
    return Verdict("unknown", "bad_response", message, 200, anomalies=reply.anomalies)


def _without_reply(call: Call, answer: Refused | Unauthorized | Throttled | Doubtful | Broken) -> Verdict:
    outcome: Literal["failed", "unknown"] = "failed"
    status: int | None = None
    if isinstance(answer, Broken):
        outcome, code, status = "unknown" if answer.sent else "failed", answer.code, answer.status
    elif isinstance(answer, Doubtful):
        outcome, code, status = "unknown", answer.code, answer.status
    elif isinstance(answer, Refused):
        code, status = answer.code, answer.status
    else:
        code, status = ("throttled", 429) if isinstance(answer, Throttled) else ("unauthorized", 401)
    items = tuple(ItemOutcome(item, outcome, code, answer.message) for item in call.items)
    return Verdict(outcome, code, answer.message, status, items)


def _judge_items(call: Call, reply: Reply) -> Verdict:
    asked = {fold(item) for item in call.items}
    listed: dict[str, str] = {}
    anomalies = list(reply.anomalies)
    for error in reply.errors:
        number = fold(error.incident)
        if number not in asked:
            anomalies.append(f"ErrorData speaks of {error.incident}, which was not asked for: {error.message}")
        elif number in listed:
            anomalies.append(f"ErrorData lists {error.incident} again: {error.message}")
        else:
            listed[number] = error.message
    anomalies += _contradictions(reply, listed)
    proof = _Proof(reply, listed, None if reply.remaining is None else frozenset(map(fold, reply.remaining)))
    items = tuple(_judge_item(item, proof, tried=fold(item) in call.tried) for item in call.items)
    outcome = sum_up(Counter(item.outcome for item in items))
    code, message = first_trouble(items)
    return Verdict(outcome, code, message, 200, items, tuple(anomalies))


def _contradictions(reply: Reply, listed: Mapping[str, str]) -> list[str]:
    if reply.status == "ok" and listed:
        return ['Status says "Successful" beside ErrorData']
    if reply.status == "partial" and not listed:
        return ['Status says "Partially Successful" but ErrorData names none of the incidents asked for']
    return []


@dataclass(frozen=True, slots=True)
class _Proof:
    reply: Reply
    listed: Mapping[str, str]
    remaining: frozenset[str] | None

    @property
    def nameless(self) -> bool:
        """Something failed and the answer does not say which."""
        return self.reply.nameless or (self.reply.status == "partial" and not self.listed)


def _judge_item(item: str, proof: _Proof, *, tried: bool) -> ItemOutcome:
    number = fold(item)
    if number in proof.listed:
        return _listed(item, proof.listed[number], tried=tried)
    if proof.remaining is not None and number in proof.remaining:
        return ItemOutcome(item, "failed", "still_linked", "D3 reports no error, yet lists it as still linked.")
    if proof.reply.status == "failed":
        return ItemOutcome(item, "failed", "command_error", "D3 answered Failed and gave no reason for this incident.")
    if proof.nameless and proof.remaining is None:
        return ItemOutcome(item, "unknown", "bad_response", "D3 reports an error without saying for which incident.")
    return ItemOutcome(item, "ok")


def _listed(item: str, said: str, *, tried: bool) -> ItemOutcome:
    if "not linked" not in said.casefold():
        return ItemOutcome(item, "failed", "item_error", said)
    if tried:
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


def check_rows(rows: int, outcomes: Mapping[str, int]) -> None:
    """Assert the conservation law of a run: rows read = the sum of all outcomes. Raises `ConservationError`."""
    total = sum(outcomes.get(outcome, 0) for outcome in OUTCOMES)
    if total != rows or set(outcomes) - set(OUTCOMES):
        raise ConservationError(f"{rows} rows were read, {total} have an outcome: {dict(outcomes)}")
