"""Where on this host the processes of one user share their limits."""

from __future__ import annotations

import os
import re
from pathlib import Path

import platformdirs

_NETWORK = frozenset({"9p", "afs", "ceph", "cifs", "fuse.sshfs", "glusterfs", "ncpfs", "nfs", "nfs4", "smb3", "smbfs"})
_MOUNTS = Path("/proc/self/mountinfo")


def host_file() -> Path:
    """The file, in the user's state folder; it need not be there."""
    return platformdirs.user_state_path("d3async", appauthor=False) / "limits.sqlite"


def on_network(path: Path, mounts: str | None = None) -> bool:
    """Whether *path* lies on another machine, as far as the system tells: locks and clocks are not one there."""
    if os.name == "nt":
        return str(path).startswith("\\\\")
    if mounts is None:
        try:
            mounts = _MOUNTS.read_text("utf-8", errors="replace")
        except OSError:
            return False
    real = os.path.realpath(path)
    best, kind = "", ""
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        point = _unescaped(fields.split(" ")[4])
        if len(point) >= len(best) and (real == point or real.startswith(point.rstrip("/") + "/")):
            best, kind = point, rest.split(" ")[0]
    return kind in _NETWORK


def _unescaped(point: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), point)
