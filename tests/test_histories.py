"""Any history of faults, kills, stops, edits and re-runs: no task is made twice, none is lost, every row is counted."""

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from d3async.d3.call import Account, ApiRequest
from d3async.d3.response import ApiResponse, TransportFailure
from d3async.engine.delivery import Delivery
from d3async.engine.engine import Engine
from d3async.errors import JournalError
from d3async.journal.sqlite.group_commit import GroupCommitJournal
from d3async.journal.sqlite.run_folder import in_memory
from d3async.policy.halt_and_exit_codes import Stop
from d3async.policy.retry import Policy
from tests.journal.ground import NOW, Entry, Run, broken, links, task

NOT_LINKED = "The source incident is not linked to this incident."
FAULTS = [
    "ok", "ok", "ok", "refused", "400", "429", "401",
    "500 before", "500 after", "lost before", "lost after", "cut after", "html before", "html after",
    "unsent", "stop", "kill before", "kill after", "kill unsent", "max 1",
]  # fmt: skip


class Killed(BaseException):
    """The process is gone."""


class D3:
    """What exists: tasks by name, links by pair. *ours* are the links that a request of ours removed."""

    def __init__(self) -> None:
        self.tasks: Counter[str] = Counter()
        self.linked = {("s-1", f"x-{n}") for n in range(5)} | {("s-2", "x-1")}
        self.ours: set[tuple[str, str]] = set()

    def perform(self, request: ApiRequest) -> dict[str, Any]:
        params = json.loads(request.body)["CommandParams"]
        if request.command == "CreateTask":
            self.tasks[params["Task Name"]] += 1
            return {"error": "", "returnData": "Successful"}
        source, numbers = params["Source Incident Number"], params["Linked Incident Numbers to be Removed"]
        errors = []
        for number in numbers:
            if (source, number) in self.linked:
                self.linked.remove((source, number))
                self.ours.add((source, number))
            else:
                errors.append({"Incident Number": number, "Error message": NOT_LINKED})
        word = "Failed" if len(errors) == len(numbers) else "Partially Successful" if errors else "Successful"
        return {"error": "", "returnData": {"Status": word, "ErrorData": errors}}


class Disk:
    """A connection that dies with its process."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.dead = False

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        if self.dead and sql in {"begin immediate", "commit"}:
            raise sqlite3.OperationalError("the process is gone")
        return self._db.execute(sql, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


class Line:
    """Transport, limiter and auth in one: what happens to the next request stands in *script*; then all is well."""

    def __init__(self, d3: D3, script: list[str], disk: Disk, stop: Callable[[], None]) -> None:
        self.d3, self.script, self.disk, self.stop = d3, list(script), disk, stop
        self.outages, self.blocked_for = 0, 0.0

    async def send(
        self, request: ApiRequest, headers: Any, *, on_sent: Callable[[], None] | None = None
    ) -> ApiResponse | TransportFailure:
        await asyncio.sleep(0)
        what = self.script.pop(0) if self.script else "ok"
        if what == "kill unsent":
            self.kill()
        if what == "unsent":
            return TransportFailure(sent=False, code="refused", message="")
        assert on_sent
        on_sent()
        return self.answer(what, request)

    def kill(self) -> None:
        self.disk.dead = True
        raise Killed

    def answer(self, what: str, request: ApiRequest) -> ApiResponse | TransportFailure:
        word, _, when = what.partition(" ")
        if word == "kill" and when == "before":
            self.kill()
        items = json.loads(request.body)["CommandParams"].get("Linked Incident Numbers to be Removed", [])
        if word in {"401", "429", "400"} or (word == "max" and len(items) > 1):
            return ApiResponse(int(word) if word.isdecimal() else 400, {}, b'{"Error": "no"}')
        if word == "refused":
            return ApiResponse(200, {}, b'{"error": "no", "returnData": "Failed"}')
        body = json.dumps(self.d3.perform(request)).encode() if when != "before" else b""
        if word == "kill":
            self.kill()
        if word == "stop":
            self.stop()
        if word in {"lost", "cut"}:
            return TransportFailure(sent=True, code="connection_lost", message="")
        return ApiResponse(500 if word == "500" else 200, {}, b"<html>" if word in {"500", "html"} else body)

    def headers(self, command: str, *, username: str, site: str) -> dict[str, str]:
        return {}

    def mask(self, text: str) -> str:
        return text

    def slot_now(self) -> bool:
        return True

    async def free_token(self) -> float | None:
        return None

    async def token(self, *, head: bool = False) -> float:
        await asyncio.sleep(0)
        return 0.0

    def unreachable(self, _: float) -> None:
        self.outages += 1

    def accepted(self, _: float) -> None:
        self.outages = 0

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class Histories(RuleBasedStateMachine):
    """Rows come, go, move and change; runs end well, are stopped or killed; D3 does what it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.d3 = D3()
        self.folder = in_memory()
        self.folder.commit()
        self.rows: list[Entry] = []
        self.names = 0
        self.stopped: Stop | None = None

    def teardown(self) -> None:
        self.folder.close()

    def fresh(self) -> str:
        self.names += 1
        return f"t{self.names}"

    @initialize(count=st.integers(0, 5))
    def start(self, count: int) -> None:
        self.rows = [task(self.fresh(), key=f"{n}" if n % 2 else None) for n in range(count)]
        self.rows += [links(f"x-{n};x-{n + 1}", source="s-1") for n in range(count)]

    @rule(key=st.booleans())
    def add_a_task(self, key: bool) -> None:
        name = self.fresh()
        self.rows.append(task(name, key=name if key else None))

    @rule(
        source=st.sampled_from(["s-1", "s-2"]), numbers=st.lists(st.integers(0, 6), min_size=1, max_size=4, unique=True)
    )
    def add_links(self, source: str, numbers: list[int]) -> None:
        self.rows.append(links(";".join(f"x-{n}" for n in numbers), source=source))

    @rule()
    def add_a_broken_row(self) -> None:
        self.rows.append(broken(self.fresh()))

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def take_a_row_away(self, data: st.DataObject) -> None:
        self.rows.pop(data.draw(st.integers(0, len(self.rows) - 1)))

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def move_a_row(self, data: st.DataObject) -> None:
        row = self.rows.pop(data.draw(st.integers(0, len(self.rows) - 1)))
        self.rows.insert(data.draw(st.integers(0, len(self.rows))), row)

    @precondition(lambda self: any(row.key for row in self.rows))
    @rule(data=st.data(), spoil=st.booleans())
    def edit_a_row_with_an_id(self, data: st.DataObject, spoil: bool) -> None:
        at = data.draw(st.sampled_from([at for at, row in enumerate(self.rows) if row.key]))
        key = self.rows[at].key
        self.rows[at] = broken(self.fresh(), key=key) if spoil else task(self.fresh(), key=key)

    @rule(script=st.lists(st.sampled_from(FAULTS), max_size=12), pilot=st.booleans())
    def run(self, script: list[str], pilot: bool) -> None:
        asyncio.run(self.carry(script, pilot=pilot))

    @rule(fault=st.sampled_from(FAULTS))
    def run_with_one_fault_and_again(self, fault: str) -> None:
        asyncio.run(self.carry([fault], pilot=False))
        asyncio.run(self.carry([], pilot=False))

    async def carry(self, script: list[str], *, pilot: bool) -> None:
        db = self.folder.db
        db.execute("begin immediate")
        run = Run.__new__(Run)
        run.folder = self.folder
        run.again(self.rows[: max(1, len(self.rows) // 2)] if pilot else self.rows)
        disk: Any = Disk(db)
        run.store._db = disk
        journal = GroupCommitJournal(disk, run.store, patience=0.0)
        engine = Engine(carrier=self, journal=journal, rows=run.to_send, workers=3, links_per_call=3)  # type: ignore[arg-type] - `deliver` is set below
        line: Any = Line(self.d3, script, disk, lambda: engine.stop(Stop("interrupted", "")))
        self.deliver = Delivery(
            transport=line, limiter=line, auth=line, account=Account("Admin", "SOC"), policy=Policy(max_attempts=3),
            random=lambda: 0.0, max_outages=3, clock=lambda: 0.0, wall=lambda: NOW,
        ).deliver  # fmt: skip
        try:
            await engine.run()
            await journal.aclose()
        except Killed:
            with suppress(JournalError):
                await journal.aclose()
        if db.in_transaction:
            db.execute("rollback")
        if not disk.dead:
            self.folder.settle_leftovers()
            self.folder.finish(now=NOW, exit_code=0, facts={})

    def jobs(self, what: str) -> list[tuple[Any, ...]]:
        return self.folder.db.execute(what).fetchall()

    @invariant()
    def no_task_is_made_twice(self) -> None:
        assert max(self.d3.tasks.values(), default=0) <= 1

    @invariant()
    def every_task_is_ok_or_unknown_and_every_ok_row_is_a_task(self) -> None:
        known: dict[str, set[str]] = {}
        for params, state in self.jobs("select params, state from job where command = 'CreateTask'"):
            known.setdefault(json.loads(params)["Task Name"], set()).add(state)
        for name in self.d3.tasks:
            assert known[name] <= {"ok", "unknown", "sent"}, (name, known[name])
        for name, states in known.items():
            assert "ok" not in states or self.d3.tasks[name] == 1, name

    @invariant()
    def an_ok_link_is_gone_and_what_we_removed_is_never_called_not_linked(self) -> None:
        for source, item, state, code in self.jobs(
            "select job.label, item.name, item.state, item.code from item join job on job.id = item.job"
        ):
            if state == "ok":
                assert (source, item) not in self.d3.linked
            assert code != "not_linked" or (source, item) not in self.d3.ours, (source, item)

    @invariant()
    def every_settled_row_has_settled_items(self) -> None:
        for state, items in self.jobs(
            "select job.state, group_concat(item.state) from job join item on item.job = job.id group by job.id"
        ):
            found = set(items.split(","))
            if state == "ok":
                assert found == {"ok"}
            if state == "failed":
                assert found == {"failed"}
            if state == "partial":
                assert found == {"ok", "failed"}

    @invariant()
    def what_has_an_outcome_is_not_to_be_sent(self) -> None:
        assert not self.jobs("select 1 from job where todo = 1 and state = 'ok'")


Histories.TestCase.settings = settings(
    max_examples=25, stateful_step_count=10, deadline=None, suppress_health_check=list(HealthCheck)
)
test_histories = Histories.TestCase


@pytest.mark.slow
def test_many_long_histories() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=1_500, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
