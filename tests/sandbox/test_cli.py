"""`d3async sandbox`: says how to use it, stops when asked, refuses what cannot be."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from d3async.cli.sandbox import sandbox_command
from d3async.sandbox import serve


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_says_what_to_paste_and_stops_when_asked(number: signal.Signals) -> None:
    run = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", "from d3async.cli.sandbox import sandbox_command; sandbox_command()"),
        *("--port", "0", "--fault", "drop-after=2%", "--latency", "5ms", "--rate", "20"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert run.stderr
    said = b""
    async with asyncio.timeout(20):
        while b"Ctrl-C" not in said:
            said += await run.stderr.readline()
        run.send_signal(number)
        out, rest = await run.communicate()

    text = (said + rest).decode()
    assert (run.returncode, out) == (0, b"")
    assert re.search(
        r"at http://127\.0\.0\.1:\d+/ce_site/VSOC: 20 requests/s \(sliding\), \d{3} links, faults: drop-after=0.02",
        text,
    )
    assert re.search(r"^  export D3_BASE_URL=http://127\.0\.0\.1:\d+/ce_site/VSOC$", text, re.MULTILINE)
    assert "  export D3_SITE='Security Operations'\n" in text
    assert "  export D3_API_KEY=sandbox-key\n" in text
    assert text.endswith("Stopped. 0 requests, 0 tasks, 0 links removed.\n")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--fault", "hung=0.1"], "no fault 'hung'; there are drop-before"),
        (["--fault", "hang"], "NAME=SHARE, as in drop-after=0.02"),
        (["--fault", "hang=0.9", "--fault", "redirect=20%"], "shares lie between 0 and 1"),
        (["--latency", "soon"], "is no duration"),
        (["--retry-after", "later"], "none, seconds, decimal, date, or a number"),
        (["--host", "0.0.0.0"], "it listens on this machine only"),
        (["--links", "no/such/file.csv"], "No such file"),
        (["--rate", "-1"], "is not in the range"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(args: list[str], said: str) -> None:
    result = CliRunner().invoke(sandbox_command, ["--port", "0", *args])

    assert (result.exit_code == 0, said in " ".join(result.output.split())) == (False, True), result.output


@pytest.mark.asyncio
async def test_a_taken_port_is_said_in_a_line() -> None:
    async with serve() as url:
        port = str(url).split(":")[2].split("/")[0]
        result = await asyncio.to_thread(CliRunner().invoke, sandbox_command, ["--port", port])

    assert result.exit_code == 1
    assert "the sandbox cannot start" in result.output


def test_help_names_every_fault() -> None:
    text = CliRunner().invoke(sandbox_command, ["--help"]).output

    assert "gzip-bomb" in text
    assert "error-NNN-after" in text
    assert "max-list=N" in text


def test_importing_the_sandbox_does_not_import_aiohttp_before_it_serves() -> None:
    code = "import sys, d3async.sandbox, d3async.cli.sandbox; sys.exit('aiohttp' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
