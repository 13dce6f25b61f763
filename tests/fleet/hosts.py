"""Four hosts on one machine: network namespaces for the database, the D3s and two workers, wired as hosts are.

Every wire is a pair of its own with addresses inside the namespaces alone. Since a D3 without TLS and our PostgreSQL
are reached on loopback only, each host has relays from its loopback to the other hosts.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.fleet import Outcome

ROOT = Path(__file__).parent.parent.parent
_ADDRESSES = "10.213.{wire}.{end}"
"""Known inside the namespaces alone."""


def missing() -> str:
    """Why there can be no hosts here; "" where there can."""
    if not sys.platform.startswith("linux") or shutil.which("ip") is None:
        return "there is no `ip` of Linux here"
    if os.geteuid() != 0:
        return "network namespaces need root"
    name = _name("try")
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"this kernel makes no network namespaces here: {made.stderr.strip()}"
    _ip("netns", "del", name)
    return ""


def _name(what: str) -> str:
    return f"d3async-{os.getpid()}-{what}"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@dataclass(frozen=True)
class Host:
    """One namespace; *command* runs a Python module in it."""

    name: str

    def command(self, *words: object) -> list[str]:
        return ["ip", "netns", "exec", self.name, sys.executable, *map(str, words)]


@contextmanager
def host(what: str) -> Iterator[Host]:
    name = _name(what)
    _ip("netns", "add", name)
    try:
        _ip("-n", name, "link", "set", "lo", "up")
        yield Host(name)
    finally:
        _ip("netns", "del", name)


class Wire:
    """Joins two hosts; *near* and *far* are the addresses of its ends."""

    def __init__(self, number: int, one: Host, other: Host) -> None:
        self.near, self.far = (_ADDRESSES.format(wire=number, end=end) for end in (1, 2))
        self._one = one
        mark = uuid4().hex[:6]
        self._ends = (f"d3{mark}a", f"d3{mark}b")
        _ip("link", "add", self._ends[0], "type", "veth", "peer", "name", self._ends[1])
        for end, at, address in zip(self._ends, (one, other), (self.near, self.far), strict=True):
            _ip("link", "set", end, "netns", at.name)
            _ip("-n", at.name, "addr", "add", f"{address}/30", "dev", end)
            _ip("-n", at.name, "link", "set", end, "up")

    def cut(self) -> None:
        """Let nothing through: packets are lost, nobody is told."""
        _ip("-n", self._one.name, "link", "set", self._ends[0], "down")

    def mend(self) -> None:
        """Let everything through again."""
        _ip("-n", self._one.name, "link", "set", self._ends[0], "up")


@contextmanager
def process(command: list[str], **more: Any) -> Iterator[subprocess.Popen[str]]:
    """*command*, ended by closing its stdin."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, **more
    ) as started:
        try:
            yield started
        finally:
            if started.stdin is not None:
                started.stdin.close()
            try:
                started.wait(20)
            except subprocess.TimeoutExpired:
                started.kill()


@contextmanager
def relay(at: Host, *ways: str) -> Iterator[None]:
    """Ways `from_address:port=to_address:port` through *at*."""
    with process(at.command("-m", "tests.fleet.relay", *ways)) as started:
        if started.stdout is None or not started.stdout.readline():
            raise RuntimeError("the relay did not start")
        yield


def send(place: Path, *, tenants: int, rows: int, cut: float) -> Outcome:
    """Send *rows* rows to each of *tenants* D3s by workers on two hosts, one cut off from the database for *cut* s."""
    from benchmarks import fleet as proofs

    found = proofs.Outcome(tenants, rows)
    began, cpu = time.monotonic(), proofs.cpu_of_children()
    with ExitStack() as stack:
        enter = stack.enter_context
        base, d3, one, two = (enter(host(what)) for what in ("base", "d3", "one", "two"))
        wires = {
            (at.name, to.name): Wire(number, at, to)
            for number, (at, to) in enumerate([(one, base), (one, d3), (two, base), (two, d3)])
        }
        server = enter(process(base.command("-m", "tests.fleet.served_database")))
        database = json.loads(_line(server))
        limits = [f"--limit={proofs.LIMIT}", f"--latency={proofs.LATENCY}", f"--ports={tenants}", "--count"]
        stub = enter(process(d3.command("-m", "benchmarks.stub", *limits)))
        ports = json.loads(_line(stub))
        for at in (one, two):
            for to, served in ((base, [database["port"]]), (d3, ports)):
                wire = wires[at.name, to.name]
                enter(relay(to, *(f"{wire.far}:{port}=127.0.0.1:{port}" for port in served)))
                enter(relay(at, *(f"127.0.0.1:{port}={wire.far}:{port}" for port in served)))
        _run(place, found, (one, two), wires[two.name, base.name], database["url"], ports, cut)
        if stub.stdin is None:
            raise RuntimeError("a pipe was asked for")
        stub.stdin.close()
        proofs.see(json.loads(_line(stub)), found)
    found.wall, found.cpu = time.monotonic() - began, proofs.cpu_of_children() - cpu
    return found


def _line(started: subprocess.Popen[str]) -> str:
    return started.stdout.readline() if started.stdout is not None else ""


def _run(
    place: Path, found: Outcome, workers: tuple[Host, Host], wire: Wire, url: str, ports: list[int], cut: float
) -> None:
    from benchmarks import fleet as proofs
    from tests.fleet.ground import fleet

    tenants = {f"t{number}": f"http://127.0.0.1:{port}/ce_site/VSOC" for number, port in enumerate(ports)}
    with fleet(place / "fleet", url, tenants, rate=proofs.LIMIT, host=workers[0].command) as ground:
        submitted = ground.run("submit", *(ground.file(name, found.rows) for name in tenants), "--processes", 1)
        if submitted.code:
            raise RuntimeError(submitted.err)
        for at in workers:
            ground.worker(
                "--stalled-after", proofs.STALLED, "--concurrency", max(found.tenants // 2, 1), host=at.command
            )
        time.sleep(3.0)
        wire.cut()
        time.sleep(cut)
        wire.mend()
        ground.wait(found.tenants * found.rows, seconds=120 + 3 * found.rows / proofs.LIMIT)
        proofs.read(ground, found)
        ground.end()
        found.notes["said"] = ground.said()[-2000:]
