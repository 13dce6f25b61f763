"""`d3async demo`: the sandbox, the samples against it, the results; no settings needed."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from d3async.cli.console import out, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SHOWN = 6


@click.command("demo")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("d3async-demo"), show_default=True, metavar="DIR",
    help="Where the job files and their run folders go.",
)  # fmt: skip
def command(output: Path) -> int:
    """Start a D3 look-alike on this machine, run the sample files against it, and show the results."""
    from d3async.sandbox.samples import sample  # noqa: PLC0415 - `--help` need not load it

    output.mkdir(parents=True, exist_ok=True)
    with _sandbox() as env:
        say(f"a D3 look-alike answers at {env['D3_BASE_URL']}: 50 requests a second, keys, links, tasks")
        for name in ("tasks.csv", "unlink.csv"):
            file = output / name
            file.write_bytes(sample(name).read_bytes())
            _run(file, env)
    say(f"\nAll of it is in {output}/ — open {output / 'unlink.d3run' / 'report.html'}")
    return 0


def _run(file: Path, env: Mapping[str, str]) -> None:
    from d3async.cli.jobfile import JobFileOptions  # noqa: PLC0415 - as above
    from d3async.cli.run_terminal import RunTerminal, show_result  # noqa: PLC0415 - as above
    from d3async.cli.rundown import RunOptions, run  # noqa: PLC0415 - as above
    from d3async.cli.servers import Servers  # noqa: PLC0415 - as above
    from d3async.program import signals  # noqa: PLC0415 - as above
    from d3async.sansio.look_alikes import ALL  # noqa: PLC0415 - as above

    say(f"\n$ d3async run {file}")
    options, terminal = RunOptions(fresh=True, allow_similar=ALL), RunTerminal(yes=True)
    show_result(run(file, JobFileOptions(), Servers({}, env), options, terminal, stops=signals), as_json=False)
    results = file.with_suffix(".d3run") / "results.csv"
    say(f"\n$ head -{_SHOWN} {results}")
    with results.open(encoding="utf-8-sig") as lines:
        for line, _ in zip(lines, range(_SHOWN), strict=False):
            out(line.rstrip("\r\n"))


@contextmanager
def _sandbox() -> Iterator[Mapping[str, str]]:
    """A sandbox in a thread of its own; the environment that leads to it."""
    ready: list[Mapping[str, str]] = []
    up, over = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve_until_over() -> None:
        from d3async.sandbox import serve  # noqa: PLC0415 - as above
        from d3async.sandbox.samples import SEED, read_links, sample  # noqa: PLC0415 - as above

        async with serve(links=read_links(sample(SEED))) as url:
            ready.append({**url.env, "D3_CONFIG": os.devnull})
            up.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve_until_over()), daemon=True)
    thread.start()
    up.wait(30)
    if not ready:
        raise click.ClickException("the sandbox did not start")
    try:
        yield ready[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(5)
        loop.close()
