"""Real servers for the real clients: the sandbox's limiters behind aiohttp.web, and nginx; each in its own process."""

import asyncio
import json
import math
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from aiohttp import web

from d3async.sandbox.limits_and_faults import make_limit

LIMIT = 50
SANDBOX = {
    "sandbox fixed": "fixed",
    "sandbox sliding": "sliding",
    "sandbox bucket": "bucket",
    "sandbox counting": "counting",
}
NGINX = {"nginx burst=5 nodelay": "burst=5 nodelay", "nginx burst=0": ""}
NGINX_CONF = """
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr crit;
events {{ worker_connections 512; }}
http {{
  log_format times '$msec $status';
  access_log {folder}/access.log times;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  limit_req_zone $binary_remote_addr zone=one:1m rate={limit}r/s;
  limit_req_status 429;
  server {{
    listen 127.0.0.1:{port};
    location / {{ limit_req zone=one {burst}; root {folder}; }}
  }}
}}
"""


@dataclass
class Served:
    """A running server: where it is, and afterwards what arrived when, as (unix time, admitted)."""

    url: str
    arrivals: list[tuple[float, bool]]


@contextmanager
def serve(name: str) -> Iterator[Served]:
    """Run the server called *name* for the length of the block; raises LookupError where nginx is absent."""
    with TemporaryDirectory(prefix="throttle-") as folder:
        if name in SANDBOX:
            with _sandbox(SANDBOX[name], Path(folder)) as served:
                yield served
        else:
            with _nginx(NGINX[name], Path(folder)) as served:
                yield served


@contextmanager
def _sandbox(kind: str, folder: Path) -> Iterator[Served]:
    port, log = _free_port(), folder / "arrivals.json"
    command = [sys.executable, "-m", "benchmarks.throttle.served", kind, str(port), str(log)]
    served = Served(f"http://127.0.0.1:{port}/", [])
    process = subprocess.Popen(command)
    try:
        _wait_for(port)
        yield served
    finally:
        process.terminate()
        process.wait(10)
    served.arrivals = [(at, admitted) for at, admitted in json.loads(log.read_text())]


@contextmanager
def _nginx(burst: str, folder: Path) -> Iterator[Served]:
    nginx = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if nginx is None:
        raise LookupError("nginx is not installed (Debian: apt-get install nginx-light)")
    port = _free_port()
    (folder / "index.html").write_text("{}")
    (folder / "conf").write_text(NGINX_CONF.format(folder=folder, port=port, limit=LIMIT, burst=burst))
    served = Served(f"http://127.0.0.1:{port}/", [])
    process = subprocess.Popen([nginx, "-e", "stderr", "-p", folder, "-c", folder / "conf"])
    try:
        _wait_for(port)
        yield served
    finally:
        process.terminate()
        process.wait(10)
    lines = (line.split() for line in (folder / "access.log").read_text().splitlines())
    served.arrivals = [(float(at), status == "200") for at, status in lines]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"nothing listens on port {port}")


def main(kind: str, port: str, log: str) -> None:
    limit = make_limit(kind, LIMIT)  # type: ignore[arg-type] # one of SANDBOX
    dice = random.Random(1)
    arrivals: list[tuple[float, bool]] = []

    async def answer(_: web.Request) -> web.Response:
        admitted = not limit.ask(time.monotonic())
        arrivals.append((time.time(), admitted))
        if not admitted:
            return web.json_response({"error": "rate limit"}, status=429)
        await asyncio.sleep(0.12 * math.exp(dice.gauss(0, 0.4)))
        return web.json_response({})

    app = web.Application()
    app.router.add_route("*", "/", answer)
    web.run_app(app, host="127.0.0.1", port=int(port), print=None, access_log=None)
    Path(log).write_text(json.dumps(arrivals))


if __name__ == "__main__":
    main(*sys.argv[1:])
