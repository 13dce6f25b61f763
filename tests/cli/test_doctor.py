"""doctor: says what is wrong and the cure, changes nothing in D3, shows no secret."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from d3async.cli.main import cli, exit_code_of
from d3async.d3.response import ApiResponse, TransportFailure
from d3async.operations import doctor as operations_doctor
from d3async.operations import doctor_network
from d3async.operations.doctor import of_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("alone")
CANARY = "canary-7f3a9c51e2"
FINE = '{"error": "", "returnData": "Successful", "rawData": {"incidents": []}}'


class Answers(BaseHTTPRequestHandler):
    """A D3 that answers every POST alike, and remembers what it was asked."""

    server: Server

    def do_HEAD(self) -> None:
        self._answer(200, "")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, body, headers = self.server.answer
        self._answer(status, body, **headers)

    def _answer(self, status: int, body: str, **headers: str) -> None:
        self.server.asked.append((self.command, self.path, self.headers.get("d3key")))
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Answers on a free port of 127.0.0.1."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.answer: tuple[int, str, dict[str, str]] = (200, FINE, {})
        self.asked: list[tuple[str, str, str | None]] = []

    def handle_error(self, *_: object) -> None:
        """A client that does not like our certificate hangs up: that is the test."""


@contextmanager
def served(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def d3() -> Iterator[Server]:
    server = Server()
    with served(server):
        yield server


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run doctor with these variables; its exit code and all it printed."""

    def run(*arguments: str, **environ: str) -> tuple[int, str]:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        code = exit_code_of(cli, ["doctor", *arguments])
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return run


def reach(server: Server, scheme: str = "http", **more: str) -> dict[str, str]:
    """The variables that lead to *server*."""
    url = f"{scheme}://127.0.0.1:{server.server_port}/ce_site/VSOC"
    return {"D3_BASE_URL": url, "D3_USERNAME": "svc", "D3_SITE": "SOC", **more}


ALL_KEYS = {"D3_API_KEY_CREATE_TASK": f"{CANARY}-c", "D3_API_KEY_GET_INCIDENTS": f"{CANARY}-g"}


def test_all_fine_is_exit_0_with_each_setting_and_its_origin(d3: Server, doctor: Any) -> None:
    code, shown = doctor("--rate", "40", **reach(d3), **ALL_KEYS)

    assert code == 0
    assert "✗" not in shown
    for part in (
        "svc  (environment D3_USERNAME)",
        "40 a second  (option --rate)",
        "60 s  (default)",
        "CreateTask: key from environment D3_API_KEY_CREATE_TASK",
        "– key            RemoveLinkedIncidents: none",  # noqa: RUF001 - the sign
        "40 requests a second at most, paced at ",
        "✓ dns",
        "✓ tcp",
        "none: http to this machine",
        "✓ clock",
        "✓ proof          D3 takes the key for GetIncidents",
        "Nothing to mend.",
    ):
        assert part in shown


def test_only_harmless_questions_are_asked(d3: Server, doctor: Any) -> None:
    doctor(**reach(d3), **ALL_KEYS)

    assert d3.asked == [
        ("HEAD", "/ce_site/VSOC", None),
        ("POST", "/ce_site/VSOC/api/Command/GetIncidents", f"{CANARY}-g"),
    ]


def test_without_a_key_for_reading_nothing_is_sent_and_it_says_so(d3: Server, doctor: Any) -> None:
    code, shown = doctor(**reach(d3, D3_API_KEY_CREATE_TASK=CANARY))

    assert code == 0
    assert "cannot be proven without changing D3" in shown
    assert [method for method, _, _ in d3.asked] == ["HEAD"]


def test_nothing_set_names_everything_at_once(doctor: Any) -> None:
    code, shown = doctor(D3_RATE="fast", D3_BASE_ULR="x")

    assert code == 2
    for part in ("D3_BASE_URL is not set", "D3_USERNAME", "D3_SITE", "D3_RATE is no rate", "CreateTask: none"):
        assert part in shown
    assert "D3_BASE_ULR is set and not known here" in shown


def test_a_shared_limit_that_cannot_be_had_is_exit_2_and_d3_is_tried_all_the_same(d3: Server, doctor: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"postgresql://u:{CANARY}@127.0.0.1:{taken.getsockname()[1]}/x"

    code, shown = doctor(**reach(d3, D3_LIMIT_URL=url), **ALL_KEYS)

    assert code == 2
    assert "✗ shared limit   postgresql://127.0.0.1:" in shown
    assert "✓ proof" in shown
    assert CANARY not in shown


def test_json_says_the_same_as_data(d3: Server, doctor: Any) -> None:
    code, shown = doctor("--json", **reach(d3), **ALL_KEYS)
    told = json.loads(shown)

    assert (code, told["ok"]) == (0, True)
    assert {"check": "proof", "state": "ok", "text": "D3 takes the key for GetIncidents", "cure": ""} in told["checks"]


def test_json_of_something_wrong_is_not_ok(doctor: Any) -> None:
    code, shown = doctor("--json")

    assert (code, json.loads(shown)["ok"]) == (2, False)


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ((200, '{"error": "No access to this site", "returnData": ""}', {}), 0, "D3 takes the key"),
        ((401, '{"Error": "Invalid authentication key."}', {}), 2, "D3 refuses the key: Invalid authentication key."),
        ((404, "<html>", {}), 2, "is the site path in D3_BASE_URL right?"),
        ((302, "", {"Location": "https://login.example.com"}), 2, "something else than D3 answers"),
        ((200, "<html>Log in</html>", {}), 2, "something else than D3 answers"),
        ((500, '{"Error": "Unexpected Error."}', {}), 2, "Unexpected Error."),
        ((403, "", {}), 2, "HTTP 403"),
        ((429, '{"Error": "Too many"}', {}), 0, "429"),
        ((401, f'{{"Error": "bad key {CANARY}-g"}}', {}), 2, "bad key ***"),
    ],
)
def test_the_answer_tells_what_is_wrong_with_key_or_address(
    d3: Server, doctor: Any, answer: tuple[int, str, dict[str, str]], code: int, said: str
) -> None:
    d3.answer = answer

    assert (found := doctor(**reach(d3), **ALL_KEYS))[0] == code
    assert said in found[1]
    assert CANARY not in found[1]


def test_a_general_key_that_is_refused_for_reading_proves_nothing(d3: Server, doctor: Any) -> None:
    d3.answer = (401, '{"Error": "Invalid authentication key."}', {})

    code, shown = doctor(**reach(d3, D3_API_KEY=CANARY))

    assert code == 0
    assert "no proof" in shown


def test_a_port_where_nobody_listens(doctor: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    environ = {"D3_BASE_URL": f"http://127.0.0.1:{port}/x", "D3_USERNAME": "u", "D3_SITE": "s", "D3_API_KEY": CANARY}

    code, shown = doctor(**environ)

    assert code == 2
    assert "✗ tcp" in shown
    assert "refused" in shown
    assert "proof" not in shown


def test_a_name_that_is_none(doctor: Any) -> None:
    code, shown = doctor(D3_BASE_URL="https://d3..example", D3_USERNAME="u", D3_SITE="s", D3_API_KEY=CANARY)

    assert code == 2
    assert "✗ dns" in shown
    assert "is D3_BASE_URL right?" in shown


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"D3_API_KEY": f"{CANARY}\n{CANARY}"}, "character"),
        ({"D3_API_KEY_FILE": "/nowhere"}, "cannot be read"),
        ({"D3_JWT": CANARY}, "which is no token"),
        ({"D3_JWT": jwt.encode({"Username": "svc", "exp": 1_600_000_000}, CANARY * 3)}, "which ended 2020-09-13"),
        ({"D3_JWT": jwt.encode({"Username": "svc", "Site": "Else"}, CANARY * 3)}, "made for another Site"),
        ({"D3_JWT_SECRET": f"-----BEGIN PUBLIC KEY----- {CANARY} -----END PUBLIC KEY-----"}, "no secret to sign with"),
        ({"D3_API_KEY": "k", "D3_PROFILE": "none"}, 'no profile "none"'),
    ],
)
def test_a_key_that_cannot_work_is_found_before_anything_is_sent(
    d3: Server, doctor: Any, environ: dict[str, str], said: str
) -> None:
    code, shown = doctor(**reach(d3, **environ))

    assert code == 2
    assert said in shown
    assert CANARY not in shown
    assert environ.get("D3_JWT", CANARY) not in shown


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_no_secret_is_shown(d3: Server, doctor: Any, arguments: list[str]) -> None:
    d3.answer = (401, f'{{"Error": "{CANARY}-g {base64.b64encode(f"{CANARY}-g".encode()).decode()}"}}', {})
    proxied = {"HTTP_PROXY": f"http://user:{CANARY}@127.0.0.1:1", "NO_PROXY": "127.0.0.1"}

    _, shown = doctor(*arguments, **reach(d3, D3_JWT_SECRET=CANARY, **proxied), **ALL_KEYS)

    assert CANARY not in shown
    assert base64.b64encode(CANARY.encode()).decode().rstrip("=") not in shown


def test_escapes_in_an_answer_do_not_reach_the_terminal(d3: Server, doctor: Any) -> None:
    d3.answer = (401, '{"Error": "\\u001b[2Jgone"}', {})

    assert "\x1b" not in doctor(**reach(d3), **ALL_KEYS)[1]


def test_a_config_file_others_may_change_is_told(d3: Server, doctor: Any, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.touch()
    config.chmod(0o666)

    code, shown = doctor(**reach(d3, D3_CONFIG=str(config)), **ALL_KEYS)

    assert code == 2
    assert f"chmod go-w {config}" in shown


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    assert of_folder(tmp_path).state == "ok"
    assert of_folder(tmp_path / "nowhere").state == "bad"


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate and key for 127.0.0.1, its own authority, good for 40 days."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    subprocess.run(
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 40 -subj /O=Test "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {path} -out {path}.crt && cat {path}.crt >> {path}",
        shell=True,
        check=True,
        capture_output=True,
    )
    return path


@pytest.fixture
def secure(certificate: Path) -> Iterator[Server]:
    server = Server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    with served(server):
        yield server


def test_a_private_authority_is_refused_and_the_cure_is_named(secure: Server, doctor: Any) -> None:
    code, shown = doctor(**reach(secure, "https"), **ALL_KEYS)

    assert code == 2
    assert "✗ tls            self-signed certificate" in shown
    assert "--ca-bundle FILE" in shown
    assert secure.asked == []


def test_with_its_authority_the_connection_is_trusted(secure: Server, certificate: Path, doctor: Any) -> None:
    code, shown = doctor("--ca-bundle", str(certificate), **reach(secure, "https"), **ALL_KEYS)

    assert code == 0
    assert "TLSv1.3, trusted chain, certificate by Test, ends in 40 days" in shown
    assert "D3 takes the key" in shown


def test_a_certificate_for_another_name_is_refused(secure: Server, certificate: Path, doctor: Any) -> None:
    elsewhere = reach(secure, "https")
    elsewhere["D3_BASE_URL"] = elsewhere["D3_BASE_URL"].replace("127.0.0.1", "localhost")

    code, shown = doctor("--ca-bundle", str(certificate), **elsewhere, **ALL_KEYS)

    assert code == 2
    assert "is the host in D3_BASE_URL the right one?" in shown


def test_a_port_that_speaks_no_tls(d3: Server, doctor: Any) -> None:
    code, shown = doctor(**reach(d3, "https"), **ALL_KEYS)

    assert code == 2
    assert "does this port speak TLS?" in shown


class Proxy(socketserver.StreamRequestHandler):
    """A proxy that knows CONNECT and asks for a password."""

    def handle(self) -> None:
        lines = list(iter(lambda: self.rfile.readline().strip(), b""))
        _, target, _ = lines[0].decode().split()
        self.server.asked.append(b"\n".join(lines).decode())  # type: ignore[attr-defined]
        host, _, port = target.partition(":")
        with socket.create_connection((host, int(port))) as far:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=_copy, args=(far, self.connection), daemon=True)
            back.start()
            _copy(self.connection, far)
            back.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while piece := source.recv(65_536):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def test_through_a_proxy_the_password_goes_along_and_is_not_shown(
    secure: Server, certificate: Path, doctor: Any
) -> None:
    proxy = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Proxy)
    proxy.daemon_threads = True
    proxy.asked = []  # type: ignore[attr-defined]
    port = proxy.server_address[1]
    with served(proxy):
        environ = reach(secure, "https", HTTPS_PROXY=f"http://user:{CANARY}@127.0.0.1:{port}", **ALL_KEYS)
        code, shown = doctor("--ca-bundle", str(certificate), **environ)

    pair = base64.b64encode(f"user:{CANARY}".encode()).decode()
    assert code == 0
    assert f"✓ proxy          http://***@127.0.0.1:{port}  (HTTPS_PROXY)" in shown
    assert CANARY not in shown
    assert len(proxy.asked) == 2  # type: ignore[attr-defined]
    assert all(f"Proxy-Authorization: Basic {pair}" in asked for asked in proxy.asked)  # type: ignore[attr-defined]


# Pure judgements

NOON = 1_796_126_400.0  # 2026-12-01T12:00:00Z


@pytest.mark.parametrize(
    ("stated", "lifetime", "state", "said"),
    [
        (NOON, None, "ok", "within 5 s"),
        (NOON + 4, None, "ok", "within 5 s"),
        (NOON - 5, None, "ok", "within 5 s"),
        (NOON - 60, None, "note", "60 s ahead of"),
        (NOON + 60, None, "note", "60 s behind"),
        (NOON + 60, 600.0, "note", "60 s behind"),
        (NOON + 400, 600.0, "bad", "400 s behind"),
        (None, 600.0, "note", "does not say"),
    ],
)
def test_the_servers_date_is_compared_with_this_clock(
    stated: float | None, lifetime: float | None, state: str, said: str
) -> None:
    date = None if stated is None else formatdate(stated, usegmt=True)

    found = doctor_network.clock(date, NOON + 0.5, lifetime)

    assert (found.state, said in found.text) == (state, True)


@pytest.mark.parametrize("stated", ["", "yesterday", "Tue, 99 Dec 2026 12:00:00 GMT"])
def test_a_date_that_is_none_is_no_error(stated: str) -> None:
    assert doctor_network.clock(stated, NOON, None).state == "note"


def test_a_look_up_that_hangs_is_given_up() -> None:
    forever = threading.Event()
    with pytest.raises(TimeoutError):
        doctor_network.within(0.01, forever.wait)
    forever.set()


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (TransportFailure(sent=False, code="dns", message="The name cannot be resolved."), "bad"),
        (TransportFailure(sent=True, code="read_timeout", message="No whole answer came in time."), "bad"),
        (ApiResponse(200, {}, b'{"error": "", "returnData": ""}'), "ok"),
        (ApiResponse(200, {}, b"[]"), "bad"),
        (ApiResponse(502, {}, b"{}"), "bad"),
    ],
)
def test_an_answer_that_is_not_d3s_is_no_proof(answer: ApiResponse | TransportFailure, state: str) -> None:
    assert operations_doctor.judge("GetIncidents", answer, general=False).state == state


def test_of_a_profile_it_says_what_is_other_for_rows_that_name_it(d3: Server, doctor: Any, tmp_path: Path) -> None:
    """For the run itself the environment comes first, for such rows the profile does; no key is shown."""
    url = reach(d3)["D3_BASE_URL"]
    (tmp_path / "config.toml").write_text(
        f'[profiles.vsoc]\nbase_url = "{url}"\nusername = "svc"\nsite = "SOC"\nrate = 20\napi_key_env = "VSOC_KEY"\n'
    )
    config = {"D3_CONFIG": str(tmp_path / "config.toml"), "VSOC_KEY": f"{CANARY}-v"}
    _, alike = doctor("--profile", "vsoc", **config)
    assert '✓ rows           rows that name the profile "vsoc" are sent by these settings too' in alike

    _, shown = doctor("--profile", "vsoc", D3_SITE="Env", D3_RATE="7", **ALL_KEYS)
    rows = [line.partition('"vsoc": ')[2] for line in shown.splitlines() if "– rows" in line]  # noqa: RUF001 - the sign
    origin = f"profile vsoc in {config['D3_CONFIG']}"
    assert rows == [
        f"site SOC  ({origin})",
        f"rate 20 a second  ({origin})",
        f"CreateTask: key from api_key_env of {origin}",
    ]
    assert CANARY not in shown
