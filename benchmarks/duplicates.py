"""How often does one create reach the server? Published clients with their defaults, and d3async, against one server.

Why: a create that is sent again after a failure nobody understood is a second task, alert or message. Each client is
installed into a virtual environment of its own; one that cannot be installed is left out with a word.

    python benchmarks/duplicates.py            writes benchmarks/results/duplicates.md
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
import venv
from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

RESULTS = Path(__file__).parent / "results" / "duplicates.md"
FAULTS = ("504", "503", "dropped", "429 seconds", "429 date")
PATIENCE = 180
"""Seconds for one client and one fault."""
_OK = {"error": "", "returnData": "Successful", "ok": True, "id": "1", "_id": "1", "uuid": "1"}


@dataclass(frozen=True)
class Client:
    """*code* creates one thing at `URL` and prints nothing; an exception is what its caller sees."""

    name: str
    package: str
    code: str


CLIENTS = (
    Client(
        "thehive4py", "thehive4py==2.1.0",
        "from thehive4py import TheHiveApi\n"
        "alert = {'type': 't', 'source': 's', 'sourceRef': 'r', 'title': 't', 'description': 'd'}\n"
        "TheHiveApi(url=URL, apikey='k').alert.create(alert=alert)",
    ),
    Client(
        "pyTenable", "pytenable==26.10.1",
        "from tenable.io import TenableIO\n"
        "TenableIO('a', 'b', url=URL).post('scans', json={'name': 'x'})",
    ),
    Client(
        "azure-core RetryPolicy (backoff 0.1)", "azure-core==1.41.0",
        "from azure.core import PipelineClient\nfrom azure.core.pipeline.policies import RetryPolicy\n"
        "from azure.core.rest import HttpRequest\n"
        "client = PipelineClient(base_url=URL, policies=[RetryPolicy(retry_backoff_factor=0.1)])\n"
        "client.send_request(HttpRequest('POST', URL + '/x', json={'name': 'x'})).raise_for_status()",
    ),
    Client(
        "slack_sdk async", "slack_sdk==3.47.0 aiohttp",
        "import asyncio\nfrom slack_sdk.web.async_client import AsyncWebClient\n"
        "asyncio.run(AsyncWebClient(token='x', base_url=URL + '/').chat_postMessage(channel='c', text='t'))",
    ),
    Client(
        "meraki", "meraki==4.7.0",
        "import meraki\n"
        "meraki.DashboardAPI('k' * 40, base_url=URL, suppress_logging=True, output_log=False, print_console=False)"
        ".organizations.createOrganization(name='x')",
    ),
    Client(
        "demisto-py", "demisto-py==3.3.1",
        "import demisto_client\nfrom demisto_client.demisto_api import CreateIncidentRequest\n"
        "demisto_client.configure(base_url=URL, api_key='k', verify_ssl=False)"
        ".create_incident(create_incident_request=CreateIncidentRequest(name='x'))",
    ),
)  # fmt: skip
OURS = Client(
    "d3async", "",
    "import asyncio\nfrom d3async import D3Client, Settings\n"
    "async def main():\n"
    "    env = {'D3_BASE_URL': URL + '/ce_site/VSOC', 'D3_USERNAME': 'Admin', 'D3_SITE': 'SOC', 'D3_API_KEY': 'k'}\n"
    "    async with D3Client(Settings.from_env(env)) as d3:\n"
    "        await d3.create_task(incident='20220125-1', name='x', description='x', assignee='admin user',"
    " due='2027-01-01 10:00:00')\n"
    "asyncio.run(main())",
)  # fmt: skip
_RUN = """
import sys, warnings
warnings.simplefilter("ignore")
URL = sys.argv[1]
try:
    exec(sys.argv[2])
except BaseException as error:
    print("saw:", type(error).__name__)
else:
    print("saw: ok")
"""


class Server(ThreadingHTTPServer):
    """Does *fault* to every POST and counts those that reached it whole."""

    daemon_threads = True
    fault = ""
    posts = 0


class Handler(BaseHTTPRequestHandler):
    """One request of a client."""

    server: Server
    protocol_version: ClassVar[str] = "HTTP/1.1"

    def do_POST(self) -> None:
        """Read the whole request, count it, and do what the fault says."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.posts += 1
        fault = self.server.fault
        if fault == "dropped":
            self.close_connection = True
        elif fault in {"504", "503"}:
            self._answer(int(fault), {"Error": "Gateway"})
        elif self.server.posts == 1:
            wait = "1" if fault.endswith("seconds") else formatdate(time.time() + 2, usegmt=True)
            self._answer(429, {"Error": "Too many requests"}, wait)
        else:
            self._answer(200, _OK)

    def do_GET(self) -> None:
        """Some clients look around first."""
        self._answer(200, _OK)

    def _answer(self, status: int, body: dict[str, object], wait: str = "") -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if wait:
            self.send_header("Retry-After", wait)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def installed(client: Client, folder: Path) -> Path | None:
    """The Python of a new environment with *client*; None when it cannot be had."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    done = subprocess.run(
        [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *client.package.split()],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        print(f"{client.name}: left out, {client.package} cannot be installed here", file=sys.stderr)
        return None
    return python


def measure(python: Path, client: Client, server: Server, fault: str) -> str:
    """POSTs that reached the server, and what the caller saw."""
    server.fault, server.posts = fault, 0
    url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        done = subprocess.run(
            [python, "-c", _RUN, url, client.code], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        return f"{server.posts}, still waiting after {PATIENCE} s"
    saw = next((line[5:] for line in done.stdout.splitlines() if line.startswith("saw: ")), "crash")
    count = f"**{server.posts}**" if server.posts > (1 if not fault.startswith("429") else 2) else str(server.posts)
    return f"{count}, {saw}"


def table(rows: list[tuple[str, list[str]]]) -> str:
    """The rows as Markdown."""
    lines = [f"| client | {' | '.join(FAULTS)} |", "|---" * (len(FAULTS) + 1) + "|"]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows)])


def main() -> None:
    """Measure every client and write the table."""
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    rows: list[tuple[str, list[str]]] = []
    with tempfile.TemporaryDirectory() as place:
        for at, client in enumerate((*CLIENTS, OURS)):
            python = Path(sys.executable) if client is OURS else installed(client, Path(place) / str(at))
            if python is None:
                continue
            name = client.package.split()[0].replace("==", " ") if client.package else client.name
            rows.append((name, [measure(python, client, server, fault) for fault in FAULTS]))
            print(f"| {name} | {' | '.join(rows[-1][1])} |", flush=True)
    server.shutdown()
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        "# One create, and how often it reaches the server\n\n"
        "POSTs that reached the server whole, then what the caller saw. 504, 503: always that status. dropped: read\n"
        "whole, then the connection closed without an answer. 429: refused once with a `Retry-After`, then 200. Bold:\n"
        "sent again although it may have happened. Defaults of each client, but azure-core's backoff factor of 0.1.\n\n"
        f"{table(rows)}\n\n"
        "`python benchmarks/duplicates.py`, each client in an environment of its own, loopback, Python "
        f"{sys.version.split()[0]}.\n"
    )


if __name__ == "__main__":
    main()
