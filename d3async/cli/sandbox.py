"""Local servers. `d3async sandbox`: a D3 look-alike; `demo`: the samples run against it; `web`: the page."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import threading
import webbrowser
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from d3async.cli.console import out, say
from d3async.cli.options import DURATION
from d3async.config.setting_fields import is_loopback
from d3async.sandbox.limits_and_faults import FAULTS, LIMIT_KINDS, MAX_LIST, find_fault
from d3async.sandbox.state import MISSING, SEED, read_links, sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from d3async.sandbox import Sandbox

_FAULT_HELP = "\n".join(f"  {fault.name:<20} {fault.says}" for fault in FAULTS.values())


def _faults(_ctx: click.Context, _param: click.Parameter, texts: tuple[str, ...]) -> dict[str, float]:
    found = {}
    for text in texts:
        name, _, share = text.partition("=")
        try:
            if name != MAX_LIST:
                find_fault(name)
            found[name] = float(share.removesuffix("%")) / (100 if share.endswith("%") else 1)
        except ValueError as problem:
            raise click.BadParameter(f"{text}: NAME=SHARE, as in drop-after=0.02 or drop-after=2%; {problem}") from None
    return found


def _retry_after(_ctx: click.Context, _param: click.Parameter, text: str) -> str | float:
    if text in {"none", "seconds", "decimal", "date"}:
        return text
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter("none, seconds, decimal, date, or a number of seconds that is always sent") from None


def _host(_ctx: click.Context, _param: click.Parameter, text: str) -> str:
    if not is_loopback(text):
        raise click.BadParameter("its keys are no secrets, so it listens on this machine only: 127.0.0.1 or ::1")
    return text


def _window(_ctx: click.Context, _param: click.Parameter, text: str | None) -> tuple[int, int]:
    if text is None:
        return 0, 0
    first, _, last = text.partition("-")
    if not (first.isdecimal() and last.isdecimal()):
        raise click.BadParameter("FIRST-LAST, numbers of requests, as in 20-60")
    return int(first), int(last)


def _links(_ctx: click.Context, _param: click.Parameter, text: str | None) -> list[tuple[str, str]]:
    if text == "none":
        return []
    try:
        return read_links(sample(SEED) if text is None else Path(text))
    except (OSError, ValueError) as problem:
        raise click.BadParameter(str(problem)) from None


_HELP = "A local D3 look-alike to try against: keys, links, tasks, a limit, and faults on demand."
_EPILOG = f"""\b
Faults, each with the share of requests it hits:
{_FAULT_HELP}
  error-NNN-before     status NNN, nothing was carried out
  error-NNN-after      status NNN, the command was carried out
  {MAX_LIST}=N           lists of more than N incidents are refused with 400 (no share)

\b
Incidents: every well-formed number is there, but those that fit --missing.
Assignees: everybody is there but "nobody".
What happened: GET /ledger, /ledger?summary=1 without the rows, DELETE /ledger starts anew.
"""


@click.command("sandbox", help=_HELP, epilog=_EPILOG)
@click.option("--host", default="127.0.0.1", show_default=True, callback=_host)
@click.option("--port", default=8471, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one")
@click.option("--rate", default=50.0, show_default=True, type=click.FloatRange(0), help="requests a second, 0: any")
@click.option(
    "--limiter", default="sliding", show_default=True, type=click.Choice(LIMIT_KINDS), help="how they are counted"
)
@click.option(
    "--burst", type=click.FloatRange(0), help="of bucket (default: one second's worth) and nginx (default: 0)"
)
@click.option(
    "--retry-after",
    default="none",
    show_default=True,
    callback=_retry_after,
    metavar="FORM",
    help="in a 429: none, seconds, decimal, date, or always this number of seconds",
)
@click.option("--latency", default="0s", show_default=True, type=DURATION, help="how long a request takes")
@click.option("--jitter", default="0s", show_default=True, type=DURATION, help="how much that varies, up and down")
@click.option("--fault", "faults", multiple=True, callback=_faults, metavar="NAME=SHARE", help="see below; repeatable")
@click.option(
    "--window", callback=_window, metavar="FIRST-LAST", help="requests that a sign-in page answers instead of D3"
)
@click.option("--forbidden", multiple=True, metavar="INCIDENT", help="an incident that answers 401; repeatable")
@click.option("--seed", default=0, show_default=True, help="of the dice for faults and jitter")
@click.option("--hang-for", default="1h", show_default=True, type=DURATION, help="how long a hanging request hangs")
@click.option("--key-header", default="d3key", show_default=True, help="the header that carries the key")
@click.option(
    "--links", callback=_links, metavar="FILE", help="CSV source,linked; `none`; default: those of the samples"
)
@click.option("--one-way", is_flag=True, help="a link is seen from its source only")
@click.option("--strict", is_flag=True, help="only incidents named in the links are there")
@click.option("--missing", multiple=True, default=MISSING, show_default=True, help="incidents that are not; * fits all")
@click.option("--assignee", "assignees", multiple=True, help="only these are there; repeatable")
@click.option("--zone-label", default="China Standard Time", show_default=True, help="after a task's due date")
@click.option(
    "--log-shape", default="1", show_default=True, type=click.Choice(["1", "2"]), help="of command centre logs"
)
@click.option("--counts-only", is_flag=True, help="the ledger keeps no rows: for long runs")
def sandbox_command(**options: Any) -> None:
    """Run until Ctrl-C."""
    options["symmetric"] = not options.pop("one_way")
    options["keep"] = not options.pop("counts_only")
    options["log_shape"] = int(options["log_shape"])
    options["assignees"] = options["assignees"] or None
    try:
        asyncio.run(_serve(options))
    except OSError as problem:
        raise click.ClickException(f"the sandbox cannot start: {problem} (--port 0 takes a free port)") from None
    except ValueError as problem:
        raise click.ClickException(f"the sandbox cannot start: {problem}") from None


async def _serve(options: dict[str, Any]) -> None:
    from d3async.sandbox import serve  # noqa: PLC0415 - aiohttp is not wanted for --help

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with serve(**options) as sandbox:
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(NotImplementedError):
                loop.add_signal_handler(number, stop.set)
        _welcome(sandbox, options)
        await stop.wait()
        counts = sandbox.backend.ledger.counts()
    say(f"Stopped. {counts['requests']} requests, {counts['tasks']} tasks, {counts['links_removed']} links removed.")


def _welcome(sandbox: Sandbox, options: dict[str, Any]) -> None:
    limit = f"{options['rate']:g} requests/s ({options['limiter']})" if options["rate"] else "no limit"
    faults = ", ".join(f"{name}={share:g}" for name, share in options["faults"].items()) or "none"
    say(f"D3 sandbox at {sandbox}: {limit}, {len(options['links'])} links, faults: {faults}")
    say("To use it, paste into another terminal:\n")
    per_command = {name: value for name, value in sandbox.env.items() if name.startswith("D3_API_KEY_")}
    for name, value in sandbox.env.items():
        if name not in per_command:
            say(f"  export {name}={shlex.quote(value)}")
    if options["key_header"] != "d3key":
        say(f"  export D3_API_KEY_HEADER={shlex.quote(options['key_header'])}")
    with suppress(FileNotFoundError):
        say(f"  d3async run {shlex.quote(str(sample('tasks.csv')))} -o /tmp/tasks.d3run")
    say("\nOr a key for each command, as D3 has them:\n")
    for name, value in per_command.items():
        say(f"  export {name}={shlex.quote(value)}")
    say(f"\nWhat happened: {sandbox.ledger_url}   Ctrl-C stops it.")


_SHOWN = 6


@click.command("demo")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("d3async-demo"), show_default=True, metavar="DIR",
    help="Where the job files and their run folders go.",
)  # fmt: skip
def demo_command(output: Path) -> int:
    """Start a D3 look-alike on this machine, run the sample files against it, and show the results."""
    from d3async.sandbox.state import sample  # noqa: PLC0415 - `--help` need not load it

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
    from d3async.cli.console import signals  # noqa: PLC0415 - as above
    from d3async.cli.run_and_check import RunTerminal, show_result  # noqa: PLC0415 - as above
    from d3async.operations.mapping import JobFileOptions  # noqa: PLC0415 - as above
    from d3async.operations.run import RunOptions, run  # noqa: PLC0415 - as above
    from d3async.operations.server_settings import Servers  # noqa: PLC0415 - as above
    from d3async.policy.look_alikes import ALL  # noqa: PLC0415 - as above

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
        from d3async.sandbox.state import SEED, read_links, sample  # noqa: PLC0415 - as above

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


@click.command("web")
@click.argument(
    "folders", nargs=-1, metavar="[FOLDER]...", type=click.Path(path_type=Path, exists=True, file_okay=False)
)
@click.option("--port", default=0, type=click.IntRange(0, 65535), metavar="N", help="[default: a free one]")
@click.option("--no-browser", is_flag=True, help="Print the address only.")
@click.option("--new-session", is_flag=True, help="End the sessions of browsers that used the page before.")
def web_command(folders: tuple[Path, ...], *, port: int, no_browser: bool, new_session: bool) -> int:
    """The same work in a browser: bring a file, check it, send it, see what became of each row.

    Serves this machine only (127.0.0.1), until Ctrl-C. Runs go on without it. Run folders in each FOLDER are listed
    beside the files that were brought to the page.
    """
    from d3async.cli.reconcile_and_settle import by_hand  # noqa: PLC0415 - as above
    from d3async.web.server import serve as serve_page  # noqa: PLC0415 - `--help` need not load it
    from d3async.web.session import state_folder  # noqa: PLC0415 - as above

    def opened(address: str, file: Path) -> None:
        say(f"The page: {address}\nThis address works once, in one browser. Ctrl-C ends the page; runs go on.")
        if not no_browser:
            webbrowser.open(file.as_uri())

    with suppress(KeyboardInterrupt):
        asyncio.run(serve_page(port, folders, state_folder(), opened, who=by_hand().who, new_session=new_session))
    return 0
