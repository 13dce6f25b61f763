"""The plan of a run in words, and the question before anything is sent, for a terminal and for a page."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from d3async.files.number_format import duration
from d3async.operations.observer import (
    SendRows,
    SendSimilarRows,
    SendUnknownRows,
    StartAnew,
    SubmitRows,
    SubmitSimilarRows,
)
from d3async.operations.server_settings import seconds
from d3async.policy.look_alikes import described, mentioned

if TYPE_CHECKING:
    from d3async.journal.sqlite.reader import Work
    from d3async.operations.observer import Question
    from d3async.operations.plan import Plan

_SHOWN = 12
"""Servers that are listed by name."""


def plan_lines(plan: Plan) -> list[str]:
    """The plan in words, a line each."""
    lines = [_work_words(work) + _where(plan) for work in plan.works] or ["nothing to send"]
    if len(plan.servers) > 1:
        lines += _server_lines(plan)
    if plan.rerun:
        lines.insert(0, _rerun_words(plan))
    if plan.outcomes.get("unknown") and plan.rows < sum(plan.outcomes.values()):
        lines.append(f"{plan.outcomes['unknown']:,} unknown from before: they may exist in D3")
    if plan.mirrored:
        lines.append(f"{plan.mirrored:,} pairs stand in the file both ways round (A-B and B-A)")
    if plan.other_day or plan.other_name:
        lines += mentioned(plan.other_day, plan.other_name)
    if plan.works:
        lines.append(_pace_words(plan))
    return lines


def _where(plan: Plan) -> str:
    if len(plan.servers) > 1:
        return f" at {len(plan.servers):,} servers"
    settings = plan.servers[0].settings
    return f' at {_host(settings.base_url)}, site "{settings.site}"'


def _host(base_url: str) -> str:
    return urlsplit(base_url).hostname or base_url


def _server_lines(plan: Plan) -> list[str]:
    shown = plan.servers[:_SHOWN]
    width = max(len(server.name) for server in shown)
    lines = [
        f"  {server.name:{width}}  {server.rows:,} row{'s' * (server.rows != 1)} at {_host(server.settings.base_url)},"
        f' site "{server.settings.site}", about {duration(seconds(server))} at {_rate_words(server.settings.rate)}'
        for server in shown
    ]
    more = len(plan.servers) - len(shown)
    return [*lines, f"  and {more:,} more"] if more else lines


def _work_words(work: Work) -> str:
    count = work.items if work.command.items else work.rows
    one, many = work.command.nouns
    words = f"{count:,} {one if count == 1 else many} to {work.command.verb}"
    facets = [f"{number:,} {_singular(name) if number == 1 else name}" for name, number in work.facets.items()]
    joints = (" for ", " in ") if len(facets) > 1 else (" of ",)
    words += "".join(joint + facet for joint, facet in zip(joints, facets, strict=False))
    if work.command.items and work.requests != count:
        words += f", in {work.requests:,} requests"
    return words


def _singular(name: str) -> str:
    return "person" if name == "people" else name.removesuffix("s")


def _rerun_words(plan: Plan) -> str:
    done = plan.outcomes.get("ok", 0)
    changes = plan.changes
    found = [
        text
        for count, text in (
            (changes.new, f"{changes.new:,} new" + (" or mended" if changes.mended else "")),
            (changes.changed, f"{changes.changed:,} changed"),
            (changes.changed_after_ok, f"{changes.changed_after_ok:,} changed after they were done (not sent again)"),
            (changes.changed_in_doubt, f"{changes.changed_in_doubt:,} changed while unknown (not sent again)"),
            (changes.read_otherwise, _as_read_then(changes.read_otherwise)),
            (changes.as_mended, f"{changes.as_mended:,} done as mended in a feedback file"),
            (changes.vanished, f"{changes.vanished:,} no longer in the file"),
        )
        if count
    ]
    return f"{', '.join(found) or 'as before'}; {done:,} done, {plan.rows:,} to send"


def _as_read_then(rows: int) -> str:
    return f"{rows:,} row{'s are' if rows != 1 else ' is'} done as {'they were' if rows != 1 else 'it was'} read then"


def _pace_words(plan: Plan) -> str:
    if len(plan.servers) > 1:
        return f"about {duration(plan.seconds)}, all at the same time"
    return f"about {duration(plan.seconds)} at {_rate_words(plan.servers[0].settings.rate)}"


def _rate_words(rate: float | None) -> str:
    if rate and rate <= 1:
        return f"{rate:g} requests/s"
    return f"{0.98 * rate:.0f} requests/s" if rate else "a rate still to be found"


def send_words(plan: Plan) -> str:
    """`Create 3,113 tasks`."""
    parts = []
    for work in plan.works:
        count = work.items if work.command.items else work.rows
        parts.append(f"{work.command.verb} {count:,} {work.command.nouns[count != 1]}")
    text = " and ".join(parts)
    return text[:1].upper() + text[1:]


def _send_question(plan: Plan) -> str:
    like = plan.other_day + plan.other_name
    resembling = f" ({like:,} of them resemble tasks sent before)" if like else ""
    return f"{send_words(plan)}{resembling}?"


def question_text(question: Question) -> str:
    """*question* as it is asked: its last line expects yes or no."""
    match question:
        case SendRows(plan):
            return _send_question(plan)
        case SendUnknownRows(rows):
            return f"{rows:,} unknown rows may exist in D3 already and would then exist twice. Send them again?"
        case StartAnew(folder, rows):
            sent = f"{rows:,} row{' was' if rows == 1 else 's were'} sent from {folder}"
            return f"{sent}. Start anew and send rows that are in the file again?"
        case SubmitRows(rows, tenants, with_unknown):
            risk = ", unknown rows among them" if with_unknown else ""
            return f"Submit {rows:,} rows{risk} for {tenants:,} tenants?"
        case SubmitSimilarRows(text):
            return f"{text}\nSubmit them all the same? They may then be in D3 twice."
        case SendSimilarRows(similar):
            lines = described(similar.pairs, similar.count, similar.lines)
            these, they = ("this row", "It") if similar.count == 1 else (f"these {similar.count:,} rows", "They")
            return "\n".join([*lines, f"Send {these} all the same? {they} may then be in D3 twice."])
