"""Run folders with jobs in them, for tests of the journal and of the engine."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from d3async.d3.call import Call
from d3async.d3.commands.create_task import CreateTask
from d3async.d3.commands.remove_linked_incidents import RemoveLinkedIncidents
from d3async.d3.response import Answer
from d3async.jobs.job import Invalid, Job, Problem, request_of
from d3async.journal.model import CallResult, Changes, RowOutcome, Selection
from d3async.journal.sqlite.row_claims import RowStore
from d3async.journal.sqlite.run_folder import RunFolder, open_folder
from d3async.policy.outcome import judge

NOW = 1_796_144_400.0
Entry = Job | Invalid


def task(name: str, *, key: str | None = None, site: str = "SOC", selected: bool = True, **more: str) -> Job:
    """A CreateTask row; rows are numbered when they are staged."""
    fields = {"incident": "20220125-1", "description": "x", "assignee": "admin user", "due": "2027-01-01 10:00:00"}
    return Job(
        row=0,
        line=0,
        raw=name,
        asked=request_of(CreateTask.model_validate({**fields, "name": name, **more})),
        username=None,
        site=site,
        key=key,
        selected=selected,
    )


def links(linked: str, *, source: str = "20231025-130", key: str | None = None, selected: bool = True) -> Job:
    """A RemoveLinkedIncidents row."""
    return Job(
        row=0,
        line=0,
        raw=f"{source},{linked}",
        asked=request_of(RemoveLinkedIncidents(source=source, linked=linked)),  # type: ignore[arg-type] - the validator reads text
        username=None,
        site="SOC",
        key=key,
        selected=selected,
    )


def broken(raw: str = "?", *, key: str | None = None) -> Invalid:
    """A row that is never sent."""
    return Invalid(row=0, line=0, raw=raw, problems=(Problem("due", "due", raw, "is no date"),), key=key)


def changed(entry: Entry, **fields: Any) -> Entry:
    """*entry* with other *fields*."""
    return entry._replace(**fields)


def numbered(entries: Iterable[Entry]) -> list[Entry]:
    return [changed(entry, row=at, line=at + 1) for at, entry in enumerate(entries, 1)]


def load(folder: RunFolder, entries: Sequence[Entry], *, allow: bool = False) -> Changes:
    """Stage *entries* and bring them in, as `run` does."""
    stage = folder.stage()
    stage.add(numbered(entries))
    list(stage.duplicates(allow=allow))
    return folder.adopt({"rows": str(len(entries))})


class Run:
    """One run over a folder, its store driven by hand."""

    def __init__(self, path: Path, entries: Sequence[Entry], *, allow: bool = False, **selection: bool) -> None:
        self.folder = open_folder(path)
        self.changes = load(self.folder, entries, allow=allow)
        self.to_send = self.folder.begin(Selection(**selection), now=NOW, facts={})
        self.folder.commit()
        self.store = RowStore(self.folder.db, epoch=self.folder.epoch, serial=selection.get("serial", False))

    def again(self, entries: Sequence[Entry]) -> Changes:
        """The next run over the same open folder."""
        for table in ("incoming", "incoming_item", "repeated", "changed", "renewed"):
            self.folder.db.execute(f"drop table if exists temp.{table}")
        changes = load(self.folder, entries, allow=True)
        self.to_send = self.folder.begin(Selection(), now=NOW, facts={})
        self.folder.commit()
        self.store = RowStore(self.folder.db, epoch=self.folder.epoch)
        return changes

    def calls(self, most: int = 50) -> list[Call]:
        """The calls that are to be sent now, claimed one after the other."""
        return [
            call
            for lane, first in self.store.lanes(-1, 1000)
            for call in [first or self.store.take(lane, most)]
            if call
        ]

    def answer(self, call: Call, answer: Answer) -> list[RowOutcome]:
        """Claim *call* and settle it with *answer*."""
        self.store.claim(call, NOW)
        return self.store.settle(CallResult(call, judge(call, answer), None, NOW + 1))

    def answer_all(self, answer: Answer) -> None:
        for call in self.calls():
            self.answer(call, answer)

    def die(self) -> None:
        """Go away as a kill does: nothing is settled, nothing given up."""
        self.folder.close()

    def end(self) -> None:
        self.folder.settle_leftovers()
        self.folder.finish(now=NOW + 2, exit_code=0, facts={})
        self.folder.close()

    def query(self, sql: str) -> list[Any]:
        return [row[0] if len(row) == 1 else row for row in self.folder.db.execute(sql).fetchall()]

    def states(self) -> list[str]:
        """The states of the file's rows, in its order."""
        return self.query("select state from job where row is not null order by row")

    def items(self) -> list[tuple[str, str]]:
        return self.query(
            "select name, item.state from item join job on job.id = item.job where row is not null order by row, pos"
        )
