"""The command line in a process of its own whose memory is measured."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

MOST_MEMORY = 200
"""MB that no input and no answer may make us use."""
_RUN = """
import pathlib, re
from d3async.cli.main import main
try:
    main()
finally:
    status = pathlib.Path('/proc/self/status')
    found = re.search('VmHWM:\\s+(\\d+) kB', status.read_text()) if status.exists() else None
    pathlib.Path({note!r}).write_text(found[1] if found else '0')
"""
# not ru_maxrss: a child starts with its parent's


@dataclass
class Ran:
    code: int
    out: bytes
    err: bytes
    peak: float
    """MB of memory at the worst moment; 0 where the system does not tell."""

    @property
    def said(self) -> str:
        return (self.out + self.err).decode()


def measured(
    folder: Path, *words: object, env: dict[str, str] | None = None, stdin: object = None, timeout: float = 120
) -> Ran:
    """`d3async *words` in *folder*."""
    note = folder / "measured.peak"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("D3_")}
    done = subprocess.run(
        [sys.executable, "-c", _RUN.format(note=str(note)), *map(str, words)],
        env={**kept, "D3_CONFIG": os.devnull, "D3_RATE": "2000", **(env or {})},
        cwd=folder,
        stdin=stdin if stdin is not None else subprocess.DEVNULL,  # type: ignore[arg-type]
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
    return Ran(done.returncode, done.stdout, done.stderr, int(note.read_text()) / 1024)
