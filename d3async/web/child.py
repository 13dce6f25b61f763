"""Runs are processes of their own: they go on when the page, its server or the browser is gone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from d3async.operations.status import folder_status
from d3async.policy.next_step import READING, arguments_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from d3async.web.uploads import Upload

_LOG = "run.log"
_TAIL = 8192


def run_arguments(upload: Upload, digest: str) -> tuple[str, ...]:
    """The command that sends *upload*, if its plan has *digest* still."""
    options = {name: value for name, value in asdict(upload.job_file).items() if value}
    more = [word for word in ("--limit", str(upload.job_file.limit)) if upload.job_file.limit]
    more += ["--allow-duplicates"] * upload.job_file.allow_duplicates
    more += ["--allow-similar", "all"] if upload.allow_similar else []
    reading = arguments_of(options, READING)
    sending = ("--plan", digest, "--yes", "--progress", "plain", *profile_arguments(upload))
    return ("run", str(upload.file), *reading, *more, *sending)


def profile_arguments(upload: Upload) -> tuple[str, ...]:
    """`--profile`, where one was chosen."""
    return ("--profile", upload.profile) if upload.profile else ()


class Children:
    """The processes that this server has started."""

    def __init__(self) -> None:
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, upload: Upload, arguments: Sequence[str]) -> None:
        """Start `d3async` with *arguments* in a session of its own; what it says goes into the upload's folder."""
        command = [sys.executable, "-m", "d3async", *arguments]
        flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
        descriptor = os.open(upload.folder / _LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as log:
            self._started[upload.id] = subprocess.Popen(  # noqa: S603 - our own interpreter, arguments in a list
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, creationflags=flags
            )

    def running(self, upload: Upload) -> bool:
        """Whether the process that was started last for *upload* has not ended."""
        process = self._started.get(upload.id)
        return process is not None and process.poll() is None

    def stop(self, upload: Upload) -> bool:
        """Interrupt what sends *upload*: the first time it finishes what is in flight. Whether there was a process."""
        process = self._started.get(upload.id)
        if process is not None and process.poll() is None:
            process.send_signal(_INTERRUPT)
            return True
        return stop_run(upload.run_folder)

    def wait(self) -> None:
        """Wait until each has ended."""
        for process in self._started.values():
            process.wait()


_INTERRUPT = getattr(signal, "CTRL_BREAK_EVENT", signal.SIGINT)


def stop_run(folder: Path) -> bool:
    """Interrupt the run that holds *folder* on this machine. Whether there was one."""
    owner = folder_status(folder, now=0.0)
    if not owner.running or owner.owner is None or owner.owner.host != socket.gethostname():
        return False
    os.kill(owner.owner.pid, _INTERRUPT)
    return True


def log_of(upload: Upload) -> str:
    """The end of what the run that was started last has said."""
    path = upload.folder / _LOG
    if not path.is_file():
        return ""
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - _TAIL))
        return log.read().decode("utf-8", "replace").strip()
