"""Results as Markdown: the promise row by row, the clients side by side, the other scenarios, the real sockets."""

from collections.abc import Callable, Iterable, Sequence

from benchmarks.throttle.board import AUTO, BASELINES, MUST, OURS, Must, Results, mean, seeds_of
from benchmarks.throttle.clock import Pace
from benchmarks.throttle.scenarios import BLOCKED, HALVED, SHARED, STATIC, UNKNOWN
from benchmarks.throttle.servers import KINDS
from benchmarks.throttle.sockets import Result

Show = Callable[[Results, str, str, str], str]


def promise(results: Results) -> str:
    rows = []
    for must in MUST:
        if not any((case.scenario, case.client) == (must.scenario, must.client) for case in results):
            continue
        value, kind = must.reached(results)
        aim = "" if must.aim is None else _bound(must, must.aim)
        cells = [must.quantity, _bound(must, must.bound), aim, _number(must, value), kind]
        rows.append([*cells, "yes" if must.holds(value) else "**no**"])
    return _table(["quantity (worst server kind)", "must reach", "aim at", "measured", "on", "reached"], rows)


def side_by_side(results: Results) -> str:
    parts = [
        f"**{scenario}**: goodput % / 429 %\n\n" + _clients(results, scenario, _good)
        for scenario in (STATIC.name, HALVED.name, SHARED.name)
    ]
    parts.append(
        f"**{BLOCKED.name}**: requests wasted / back at 90 % after s\n\n" + _clients(results, BLOCKED.name, _block)
    )
    parts.append(f"**{UNKNOWN.name}**: 90 % found after s / 429s in 5 s\n\n" + _clients(results, UNKNOWN.name, _found))
    return "\n\n".join(part for part in parts if part)


def others(results: Results) -> str:
    names = dict.fromkeys(case.scenario for case in results if case.client == OURS)
    rows = []
    for name in names:
        show = _block if name.startswith("block") else _good
        cells = [show(results, name, kind, OURS) for kind in KINDS]
        rows.append([name, *cells])
    return _table(["scenario", *KINDS], rows)


def sockets(found: Sequence[Result]) -> str:
    rows = [
        [
            result.server,
            result.client,
            f"{100 * result.goodput:.1f}",
            f"{100 * result.refused:.2f}",
            str(result.refusals),
            f"{result.most_on_wire} / {result.most_arrived}",
        ]
        for result in found
    ]
    return _table(["server", "client", "goodput %", "429 %", "429s", "most in 1 s: wire / server"], rows)


def clocks(paces: Iterable[tuple[Pace, Pace]], free: dict[str, float], idle: float, rest: dict[str, str]) -> str:
    rows = [
        [quiet.client, f"{quiet.rate:.1f}", str(quiet.most_in_a_second), f"{quiet.cpu_us:.0f}", f"{busy.rate:.1f}"]
        for quiet, busy in paces
    ]
    head = ["client", "a second", "most in 1 s", "CPU µs a token", "a second, loop busy 30 %"]
    lines = [_table(head, rows), "", f"- a bare `asyncio.sleep` 48.5 times a second costs {idle:.0f} µs CPU each"]
    lines += [f"- a token nobody waits for, {client}: {cost:.1f} µs" for client, cost in free.items()]
    lines += [f"- {name}: {value}" for name, value in rest.items()]
    return "\n".join(lines)


def _clients(results: Results, scenario: str, show: Show) -> str:
    rows = []
    for client in (*BASELINES, OURS, AUTO):
        cells = [show(results, scenario, kind, client) for kind in KINDS]
        if any(cells):
            rows.append([f"**{client}**" if client in {OURS, AUTO} else client, *cells])
    return _table(["client", *KINDS], rows) if rows else ""


def _good(results: Results, scenario: str, kind: str, client: str) -> str:
    good = seeds_of(results, scenario, kind, client, "goodput")
    if not good:
        return ""
    refused = mean(seeds_of(results, scenario, kind, client, "refused"))
    return f"{100 * mean(good):.1f} / {100 * refused:.2f}"


def _block(results: Results, scenario: str, kind: str, client: str) -> str:
    return _pair(results, (scenario, kind, client), "wasted", "back after")


def _found(results: Results, scenario: str, kind: str, client: str) -> str:
    return _pair(results, (scenario, kind, client), "found after", "429 in 5 s")


def _pair(results: Results, where: tuple[str, str, str], first: str, second: str) -> str:
    left = seeds_of(results, *where, first)
    if not left:
        return ""
    return f"{_short(mean(left))} / {_short(mean(seeds_of(results, *where, second)))}"


def _short(value: float) -> str:
    return "never" if 59.9 <= value < 60.1 else f"{value:.1f}"


def _bound(must: Must, bound: float) -> str:
    return f"{'>=' if must.at_least else '<='} {_number(must, bound)}"


def _number(must: Must, value: float) -> str:
    return f"{100 * value:.4g} %" if must.percent else f"{value:.4g}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)
