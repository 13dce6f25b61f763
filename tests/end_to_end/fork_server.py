"""`d3async` as a process of its own for each command, without the time that starting an interpreter takes.

As a program it has everything imported, and forks for each command that is asked for on stdin, a JSON object a line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn, Self

_EARLY = (
    "cli.doctor_and_login",
    "cli.reconcile_and_settle",
    "cli.run_and_check",
    "cli.status_and_results",
    "operations.check",
    "operations.reconcile",
    "operations.run",
    "operations.settle",
    "operations.status",
)


@dataclass
class Commands:
    """Starts `d3async` in a child process for each command; a context manager, which ends the server."""

    _process: subprocess.Popen[str] = field(init=False)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe(self._process.stdin).close()
        self._process.wait(20)
        self._pipe(self._process.stdout).close()

    def run(
        self, words: Sequence[str], *, env: Mapping[str, str], folder: Path, started: Callable[[int], None]
    ) -> tuple[int, str, str]:
        """Exit code (negative: the signal that killed it), stdout and stderr; *started* gets the process id."""
        out, err = folder / ".stdout", folder / ".stderr"
        asked = {"words": list(words), "env": dict(env), "cwd": str(folder), "out": str(out), "err": str(err)}
        self._pipe(self._process.stdin).write(f"{json.dumps(asked)}\n")
        started(int(self._read()))
        code = int(self._read())
        return code, out.read_text(), err.read_text()

    def _read(self) -> str:
        return self._pipe(self._process.stdout).readline()

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


def _command(asked: Mapping[str, Any]) -> NoReturn:
    """What the child process does; it never comes back."""
    code = 70
    try:
        os.environ.clear()
        os.environ.update(asked["env"])
        os.chdir(asked["cwd"])
        for number, path, flags in (
            (0, os.devnull, os.O_RDONLY),
            (1, asked["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
            (2, asked["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        ):
            os.dup2(os.open(path, flags, 0o600), number)
        # text files of its own: what the server has buffered belongs to the server
        sys.stdin, sys.stdout, sys.stderr = (open(number, mode, encoding="utf-8") for number, mode in enumerate("rww"))  # noqa: PTH123, SIM115
        sys.argv = ["d3async", *asked["words"]]
        import_module("d3async.cli.main").main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - a child process says what was wrong and ends
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _serve() -> None:
    sys.path.insert(0, str(Path(__file__).parents[2]))
    for name in _EARLY:
        import_module(f"d3async.{name}")
    while line := sys.stdin.readline():
        asked = json.loads(line)
        pid = os.fork()
        if not pid:
            _command(asked)
        _say(pid)
        _say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _say(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _serve()
