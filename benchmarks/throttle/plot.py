"""One picture: what is accepted each second while the limit halves and comes back, as SVG by hand."""

from pathlib import Path

from benchmarks.throttle.clients import CLIENTS
from benchmarks.throttle.scenarios import HALVED
from benchmarks.throttle.virtual import Simulation

SERVER = "refusals count"
SHOWN = {"AsyncLimiter(1, 1/50)": "#c0392b", "botocore adaptive": "#d68910", "d3async": "#1e8449"}
WIDTH, HEIGHT, LEFT, TOP, RIGHT = 860, 300, 46, 34, 18
SECONDS, MOST = 180, 60


def draw(path: Path, seed: int = 0) -> None:
    lines = [_line([_limit(t) for t in range(SECONDS)], "#7f8c8d", "6 4")]
    for client, colour in SHOWN.items():
        trace = Simulation(HALVED.against(SERVER), CLIENTS[client], seed).run()
        counts = [0] * SECONDS
        for at, admitted, _ in trace.arrivals:
            counts[min(int(at), SECONDS - 1)] += admitted
        lines.append(_line(counts, colour))
    path.write_text(_page([*_axes(), *lines, *_legend()]))


def _limit(second: int) -> float:
    return HALVED.world.limit_at(second) if HALVED.world.limit_at else MOST


def _x(second: float) -> float:
    return LEFT + second * (WIDTH - LEFT - RIGHT) / SECONDS


def _y(rate: float) -> float:
    return TOP + (MOST - rate) * (HEIGHT - TOP - 30) / MOST


def _line(values: list[float] | list[int], colour: str, dashes: str = "none") -> str:
    points = " ".join(f"{_x(second):.1f},{_y(value):.1f}" for second, value in enumerate(values))
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6" stroke-dasharray="{dashes}"/>'


def _axes() -> list[str]:
    across = [
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_y(rate):.1f}" y2="{_y(rate):.1f}" stroke="#ddd"/>'
        f'<text x="{LEFT - 8}" y="{_y(rate) + 4:.1f}" text-anchor="end">{rate}</text>'
        for rate in range(0, MOST + 1, 10)
    ]
    along = [f'<text x="{_x(t):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{t} s</text>' for t in range(0, 181, 30)]
    return across + along


def _legend() -> list[str]:
    names = {"limit": "#7f8c8d"} | SHOWN
    return [
        f'<text x="{LEFT + 180 * place}" y="20" fill="{colour}" font-weight="600">{name}</text>'
        for place, (name, colour) in enumerate(names.items())
    ]


def _page(parts: list[str]) -> str:
    title = f"accepted requests a second, limit 50→25→50, server kind “{SERVER}”"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">'
        f'<title>{title}</title><rect width="100%" height="100%" fill="white"/>' + "\n".join(parts) + "</svg>\n"
    )
