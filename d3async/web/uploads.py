"""Files that were brought to the page, each in a folder of its own with what was chosen for it and its run folder."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d3async.errors import JobFileError
from d3async.files.atomic_write import atomic_write
from d3async.operations.mapping import JobFileOptions
from d3async.operations.run import default_folder
from d3async.policy.look_alikes import ALL, Lines

if TYPE_CHECKING:
    from collections.abc import Mapping

_ABOUT = "about.json"
_ID = re.compile(r"[0-9a-f]{16}", re.ASCII)
_ENDINGS = frozenset({".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json", ".xlsx", ".xlsm"})
_KEPT_FOR = 30 * 86400.0
CHOICES = (
    "command", "id_column", "date_format", "time_zone", "server_time_zone", "encoding", "delimiter", "sheet", "values",
    "names", "skip_invalid", "allow_duplicates", "limit",
)  # fmt: skip
"""The fields of `JobFileOptions` that a page offers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file in *folder* under our own name, *name* being its user's; *at* is seconds since 1970.

    *choices* are `JobFileOptions` by field, *plan* is the plan shown last, as `plan_of` gave it.
    """

    folder: Path
    name: str
    ending: str
    at: float
    profile: str = ""
    choices: Mapping[str, Any] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """What the page's address calls it."""
        return self.folder.name

    @property
    def file(self) -> Path:
        """The file."""
        return self.folder / f"tasks{self.ending}"

    @property
    def run_folder(self) -> Path:
        """Its run folder, which may not be there yet."""
        return default_folder(self.file)

    @property
    def job_file(self) -> JobFileOptions:
        """What was chosen, as options."""
        known: dict[str, Any] = {name: value for name, value in self.choices.items() if name in CHOICES and value}
        given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in known.items()}
        return JobFileOptions(**given)

    @property
    def allow_similar(self) -> Lines:
        """The rows that are meant although they look like rows sent before."""
        return ALL if self.choices.get("allow_similar") else Lines()

    @property
    def settings(self) -> dict[str, Any]:
        """The settings it is sent with, as options."""
        return {"profile": self.profile or None, "config": None, "site": None}


class Uploads:
    """The uploads in *folder*, which is this user's alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def new(self, name: str, profile: str, *, now: float) -> Upload:
        """An upload whose file is still to be written. Raises `JobFileError` for an ending that no job file has."""
        ending = Path(name).suffix.casefold()
        if ending not in _ENDINGS:
            text = f'"{name}" is no job file: it ends in {", ".join(sorted(_ENDINGS))}'
            raise JobFileError(text, code="job_file")
        folder = self._folder / secrets.token_hex(8)
        folder.mkdir(mode=0o700)
        return Upload(folder=folder, name=Path(name).name, ending=ending, at=now, profile=profile)

    def save(self, upload: Upload) -> None:
        """Keep what is known of *upload*."""
        known = {name: value for name, value in asdict(upload).items() if name != "folder"}
        with atomic_write(upload.folder / _ABOUT) as file:
            file.write(json.dumps(known, ensure_ascii=False).encode())

    def get(self, name: str) -> Upload | None:
        """The upload called *name* in addresses; None where there is none."""
        folder = self._folder / name
        if not _ID.fullmatch(name):
            return None
        try:
            known = json.loads((folder / _ABOUT).read_text("utf-8"))
            return Upload(folder=folder, **known)
        except (OSError, ValueError, TypeError):
            return None

    def all(self) -> list[Upload]:
        """Every upload, the newest first."""
        found = [upload for path in self._folder.iterdir() if (upload := self.get(path.name))]
        return sorted(found, key=lambda upload: -upload.at)

    def remove(self, upload: Upload) -> None:
        """Remove the file and its run folder."""
        shutil.rmtree(upload.folder, ignore_errors=True)

    def remove_old(self, *, now: float) -> None:
        """Remove files that were never sent, 30 days after they came. A run folder stays until its user removes it."""
        for path in self._folder.iterdir():
            upload = self.get(path.name)
            since = upload.at if upload else path.stat().st_mtime
            if now - since > _KEPT_FOR and not any(path.glob("*.d3run")):
                shutil.rmtree(path, ignore_errors=True)


def with_choices(upload: Upload, **choices: Any) -> Upload:
    """*upload* with *choices* beside those made before; its plan counts no longer."""
    return replace(upload, choices={**upload.choices, **choices}, plan={})


def wall_clock() -> float:
    """Seconds since 1970."""
    return time.time()
