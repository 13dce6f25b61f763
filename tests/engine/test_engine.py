"""Every row that is to be sent comes to its outcome, whatever happens on the way."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import pytest

from d3async.d3.call import Call
from d3async.d3.response import AmbiguousAnswer, Answer, ItemError, Refused, Reply, Unauthorized
from d3async.engine.delivery import Delivered, Stopper
from d3async.engine.engine import Engine
from d3async.errors import ConservationError, FencedError, JournalError
from d3async.journal.model import RowOutcome, Selection
from d3async.journal.protocols import AttemptLog
from d3async.journal.sqlite.group_commit import GroupCommitJournal
from d3async.journal.sqlite.row_claims import RowStore
from d3async.journal.sqlite.run_folder import RunFolder, in_memory
from d3async.policy.halt_and_exit_codes import Stop, parse
from tests.journal.ground import NOW, Entry, links, load, task

OK = Reply("ok")
REFUSED = Refused("http_400", "no", 400)
WORKERS = 4
STOP = Stop("interrupted", "Ctrl-C")


def name(call: Call) -> str:
    return str(call.params.get("Task Name") or ";".join(call.items))


class Carrier:
    """Stands for delivery: claims, and answers as *says* says; None is a call that was not sent."""

    def __init__(self, says: Callable[[Call], Answer | None] = lambda _: OK) -> None:
        self.says = says
        self.carried: list[str] = []
        self.on_wire: Callable[[Call], Awaitable[None]] | None = None
        self.in_flight = self.most = 0
        self.sources: list[str] = []

    async def deliver(self, call: Call, *, repeatable: bool, log: AttemptLog, stopper: Stopper) -> Delivered:
        assert repeatable is (call.command != "CreateTask")
        if stopper.reason is not None:
            return Delivered(call, None, 0)
        with anyio.CancelScope(shield=True):
            await log.claim(call, NOW)
        self.carried.append(name(call))
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        assert call.label not in self.sources or not call.items, "one source is never in flight twice"
        self.sources.append(call.label)
        try:
            await asyncio.sleep(0)
            if self.on_wire:
                await self.on_wire(call)
        finally:
            self.in_flight -= 1
            self.sources.remove(call.label)
        answer = self.says(call)
        if answer is None:
            log.release(call, sent=False)
        return Delivered(call, answer, 1)


class Run:
    def __init__(self, folder: RunFolder, rows: int, carrier: Carrier, **options: Any) -> None:
        self.folder, self.carrier = folder, carrier
        self.journal = GroupCommitJournal(
            folder.db, RowStore(folder.db, epoch=1), patience=options.pop("patience", 1.0)
        )
        self.told: list[RowOutcome] = []
        self.engine = Engine(
            carrier=carrier, journal=self.journal, rows=rows, on_row=self.told.append, **{"workers": WORKERS, **options}
        )

    def states(self) -> list[str]:
        return [state for (state,) in self.folder.db.execute("select state from job order by id")]


@asynccontextmanager
async def prepared(entries: Sequence[Entry], carrier: Carrier, **options: Any) -> AsyncIterator[Run]:
    folder = in_memory()
    load(folder, entries)
    rows = folder.begin(Selection(), now=NOW, facts={})
    folder.commit()
    run = Run(folder, rows, carrier, **options)
    try:
        yield run
    finally:
        with suppress(FencedError, JournalError, ConservationError):
            await run.journal.aclose()
        folder.close()


def tasks(count: int) -> list[Entry]:
    return [task(f"t{n}") for n in range(count)]


@pytest.mark.asyncio
@pytest.mark.parametrize("count", [0, 1, 7, 450])
async def test_every_row_is_carried_once_and_told_once(count: int) -> None:
    async with prepared(tasks(count), Carrier()) as run:
        assert await run.engine.run() is None

        assert sorted(run.carrier.carried) == sorted(f"t{n}" for n in range(count))
        assert run.states() == ["ok"] * count
        assert sorted(row.row for row in run.told) == list(range(1, count + 1))
        assert run.engine.counts == ({"ok": count} if count else {})
        assert run.carrier.most <= 4


@pytest.mark.asyncio
async def test_rows_of_one_source_go_together_and_never_beside_each_other() -> None:
    entries = [links(f"x-{n}", source=f"s-{n % 3}") for n in range(30)]
    async with prepared(entries, Carrier(), links_per_call=4) as run:
        await run.engine.run()

        assert run.states() == ["ok"] * 30
        assert sorted(len(call.split(";")) for call in run.carrier.carried) == [2] * 3 + [4] * 6


@pytest.mark.asyncio
async def test_a_row_longer_than_a_call_is_spread_over_several_and_told_once() -> None:
    async with prepared([links(";".join(f"x-{n}" for n in range(10)))], Carrier(), links_per_call=4) as run:
        await run.engine.run()

        assert [len(call.split(";")) for call in run.carrier.carried] == [4, 4, 2]
        assert [(row.outcome, row.items) for row in run.told] == [("ok", (10, 0, 0))]


@pytest.mark.asyncio
async def test_a_refused_list_is_halved_until_the_bad_link_stands_alone() -> None:
    def says(call: Call) -> Answer:
        return REFUSED if "x-5" in call.items else OK

    async with prepared([links(f"x-{n}") for n in range(8)], Carrier(says)) as run:
        await run.engine.run()

        assert [row.row for row in run.told if row.outcome != "ok"] == [6]
        assert run.states().count("ok") == 7
        assert len(run.carrier.carried) == 7  # 8, 4, 4, 2, 1, 1, 2


@pytest.mark.asyncio
async def test_a_list_limit_once_learnt_is_kept_to() -> None:
    def says(call: Call) -> Answer:
        return REFUSED if len(call.items) > 2 else OK

    async with prepared([links(f"x-{n}") for n in range(100)], Carrier(says), links_per_call=50) as run:
        await run.engine.run()

        assert run.states() == ["ok"] * 100
        assert len(run.carrier.carried) < 100


@pytest.mark.asyncio
async def test_an_item_that_was_tried_in_a_refused_list_stays_in_doubt() -> None:
    class Doubting(Carrier):
        async def deliver(self, call: Call, *, repeatable: bool, log: AttemptLog, stopper: Stopper) -> Delivered:
            if len(call.items) == 2:
                await log.claim(call, NOW)
                call = call.after_doubt()
            return await super().deliver(call, repeatable=repeatable, log=log, stopper=stopper)

    async with prepared([links("a-1"), links("b-2")], Doubting(lambda _: REFUSED)) as run:
        await run.engine.run()

        assert run.states() == ["unknown", "unknown"]


@pytest.mark.asyncio
async def test_a_stop_starts_nothing_new_and_lets_what_is_in_flight_finish() -> None:
    carrier = Carrier()
    async with prepared(tasks(50), carrier, drain=30.0) as run:

        async def stop(_: Call) -> None:
            run.engine.stop(STOP)
            await asyncio.sleep(0.01)

        carrier.on_wire = stop
        assert await run.engine.run() == STOP

        states = run.states()
        assert states.count("ok") == len(carrier.carried) <= 4
        assert states.count("pending") == 50 - len(carrier.carried)
        assert run.folder.db.execute("select kind, note from event").fetchall() == [("stop", "interrupted: Ctrl-C")]


@pytest.mark.asyncio
async def test_a_stop_between_the_calls_of_a_row_leaves_the_rest_of_it_to_the_next_run() -> None:
    carrier = Carrier()
    async with prepared([links("a-1;b-2;c-3")], carrier, links_per_call=1) as run:

        async def stop(_: Call) -> None:
            run.engine.stop(STOP)

        carrier.on_wire = stop
        await run.engine.run()

        assert carrier.carried == ["a-1"]
        assert run.states() == ["pending"]
        assert run.told == []
        assert run.folder.db.execute("select state from item order by id").fetchall() == [
            ("ok",), ("pending",), ("pending",),
        ]  # fmt: skip


@pytest.mark.asyncio
async def test_a_stop_between_the_halves_of_a_refused_list_leaves_the_other_half_unsent() -> None:
    carrier = Carrier(lambda call: REFUSED if len(call.items) > 1 else OK)
    async with prepared([links("a-1"), links("b-2")], carrier) as run:

        async def stop(call: Call) -> None:
            if len(call.items) == 1:
                run.engine.stop(STOP)

        carrier.on_wire = stop
        await run.engine.run()

        assert carrier.carried == ["a-1;b-2", "a-1"]
        assert run.states() == ["ok", "pending"]


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["drain ends", "second signal"])
async def test_what_does_not_finish_in_time_is_dropped_and_stays_marked_as_sent(how: str) -> None:
    carrier = Carrier()
    async with prepared(tasks(50), carrier, drain=0.01 if how == "drain ends" else 600.0) as run:

        async def hang(_: Call) -> None:
            run.engine.stop(STOP)
            if how == "second signal":
                run.engine.cancel()
            await asyncio.sleep(600)

        carrier.on_wire = hang
        assert await asyncio.wait_for(run.engine.run(), 30) == STOP

        assert run.states().count("sent") == len(carrier.carried)
        run.folder.settle_leftovers()
        assert run.states().count("unknown") == len(carrier.carried)
        assert run.states().count("pending") == 50 - len(carrier.carried)


@pytest.mark.asyncio
async def test_whoever_awaits_the_engine_may_be_cancelled_and_known_outcomes_are_stored() -> None:
    carrier = Carrier()
    async with prepared(tasks(50), carrier) as run:
        many = asyncio.Event()

        async def hang(_: Call) -> None:
            if len(carrier.carried) > 20:
                many.set()
                await asyncio.sleep(600)

        carrier.on_wire = hang
        running = asyncio.create_task(run.engine.run())
        await many.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

        assert run.states().count("sent") + run.states().count("ok") == len(carrier.carried)
        assert run.states().count("ok") >= 17


@pytest.mark.asyncio
@pytest.mark.parametrize(("rule", "carried"), [("failed=3", 3), ("failed=10%", 10), ("unknown=1", 100)])
async def test_a_halt_rule_stops_when_rows_of_this_run_reach_it(rule: str, carried: int) -> None:
    carrier = Carrier(lambda _: REFUSED)
    async with prepared(tasks(100), carrier, workers=1, halts=[parse(rule)]) as run:
        reason = await run.engine.run()

        assert (reason is not None) is (carried < 100)
        assert carried <= len(carrier.carried) <= carried + 2
        if reason:
            assert reason.code == "halt"
            assert f"--halt {rule}" in reason.message


@pytest.mark.asyncio
async def test_a_call_that_was_not_sent_stays_unsent() -> None:
    async with prepared(tasks(3), Carrier(lambda call: None if name(call) == "t1" else OK)) as run:
        await run.engine.run()

        assert run.states() == ["ok", "pending", "ok"]


@pytest.mark.asyncio
async def test_a_former_owner_stops_and_says_so() -> None:
    carrier = Carrier()
    async with prepared(tasks(50), carrier) as run:

        async def overtake(_: Call) -> None:
            run.folder.db.execute("update meta set value = '2' where key = 'epoch'")

        carrier.on_wire = overtake
        reason = await run.engine.run()

        assert reason is not None
        assert reason.code == "fenced"
        assert len(carrier.carried) <= 8
        assert run.states().count("pending") >= 42


@pytest.mark.asyncio
async def test_a_defect_is_raised_as_itself_and_not_as_a_group() -> None:
    carrier = Carrier()
    async with prepared(tasks(50), carrier) as run:

        async def lose(call: Call) -> None:
            if name(call) == "t9":
                raise ConservationError("an item was lost")

        carrier.on_wire = lose
        with pytest.raises(ConservationError, match="an item was lost"):
            await run.engine.run()

        assert run.states().count("ok") >= 6


@pytest.mark.asyncio
async def test_an_answer_that_loses_an_item_is_a_defect() -> None:
    class Losing(Carrier):
        async def deliver(self, call: Call, *, repeatable: bool, log: AttemptLog, stopper: Stopper) -> Delivered:
            done = await super().deliver(call, repeatable=repeatable, log=log, stopper=stopper)
            return Delivered(done.call._replace(items=(*done.call.items, "made-up")), done.answer, 1)

    async with prepared([links("a-1")], Losing()) as run:
        with pytest.raises(ConservationError):
            await run.engine.run()


@pytest.mark.asyncio
async def test_a_disk_that_refuses_stops_the_run_and_what_is_not_stored_is_said() -> None:
    carrier = Carrier()
    async with prepared(tasks(50), carrier, patience=0.0) as run:
        run.journal._db = Full(run.folder.db, after=40)  # type: ignore[assignment] - stands for a disk
        with pytest.raises(JournalError, match="disk is full"):
            await run.engine.run()

        assert run.engine.stopper.reason is not None
        assert run.engine.stopper.reason.code == "journal"
        assert run.states().count("pending") > 0


class Full:
    """A disk that is full after so many statements."""

    def __init__(self, db: sqlite3.Connection, after: int) -> None:
        self._db, self._left = db, after

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        self._left -= 1
        if self._left < 0 and sql == "commit":
            raise sqlite3.OperationalError("database or disk is full")
        return self._db.execute(sql, *values)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._db, attribute)


@pytest.mark.asyncio
async def test_rows_are_told_with_their_items_and_codes() -> None:
    reply = Reply("partial", (ItemError("B-2", "closed"),))
    async with prepared([links("a-1;b-2")], Carrier(lambda _: reply)) as run:
        await run.engine.run()

        assert run.told == [RowOutcome(1, "partial", "item_error", "b-2: closed", (1, 1, 0))]


@pytest.mark.asyncio
async def test_answers_are_kept_up_to_a_length() -> None:
    from d3async.d3.response import ApiResponse

    class Long(Carrier):
        async def deliver(self, call: Call, *, repeatable: bool, log: AttemptLog, stopper: Stopper) -> Delivered:
            done = await super().deliver(call, repeatable=repeatable, log=log, stopper=stopper)
            return Delivered(
                done.call, AmbiguousAnswer("bad_response", "?", 200), 1, ApiResponse(200, {}, b"\xff" * 100_000)
            )

    async with prepared(tasks(1), Long()) as run:
        await run.engine.run()

        assert run.folder.db.execute("select length(body) from answer").fetchall() == [(16_384,)]


class Guarded(Carrier):
    """A carrier that asks before each call, as delivery does; *forbidden* incidents answer 401."""

    def __init__(self, forbidden: Callable[[Call], bool], **answers: Answer) -> None:
        super().__init__(lambda call: Unauthorized("No.") if forbidden(call) else answers.get(call.label, OK))

    async def deliver(self, call: Call, *, repeatable: bool, log: AttemptLog, stopper: Stopper) -> Delivered:
        await asyncio.sleep(0)
        if stopper.reason is None and not stopper.admit(call):
            return Delivered(call, None, 0, kept_back=True)
        return await super().deliver(call, repeatable=repeatable, log=log, stopper=stopper)


def about(count: int, incidents: int) -> list[Entry]:
    return [task(f"t{n}", incident=f"20270101-{n % incidents}") for n in range(count)]


@pytest.mark.asyncio
@pytest.mark.parametrize("workers", [1, 4, 32])
@pytest.mark.parametrize(
    ("count", "incidents", "forbidden"),
    [
        (100, 100, {"20270101-7"}),
        (100, 100, {"20270101-0"}),
        (1000, 1000, {f"20270101-{n}" for n in range(5, 1000, 100)}),
        (90, 9, {"20270101-3"}),  # ten rows about it
        (200, 200, {f"20270101-{n}" for n in range(50)}),  # half of the first rows
    ],
)
async def test_rows_about_a_forbidden_incident_fail_and_all_others_are_sent_in_the_same_run(
    count: int, incidents: int, forbidden: set[str], workers: int
) -> None:
    carrier = Guarded(lambda call: call.label in forbidden)
    async with prepared(about(count, incidents), carrier, workers=workers) as run:
        stop = await run.engine.run()

        if len(forbidden) == 50:  # two refusals about different incidents look like a key that is not accepted
            assert stop is not None
            assert len(carrier.carried) <= workers + 1
            return
        failed = sum(f"20270101-{n % incidents}" in forbidden for n in range(count))
        assert stop is None
        assert run.engine.counts == {"ok": count - failed, "failed": failed}
        assert len(carrier.carried) == count


@pytest.mark.asyncio
@pytest.mark.parametrize("workers", [1, 4, 32])
async def test_a_key_that_is_revoked_costs_what_is_in_flight_and_one_more(workers: int) -> None:
    sent = 0

    def revoked(_: Call) -> bool:
        nonlocal sent
        sent += 1
        return sent > 50

    carrier = Guarded(revoked)
    async with prepared(about(300, 300), carrier, workers=workers) as run:
        stop = await run.engine.run()

        assert stop == Stop("unauthorized", "No.")
        assert run.states().count("ok") == 50
        assert run.states().count("pending") == 250
        assert len(carrier.carried) <= 50 + workers + 1


@pytest.mark.asyncio
@pytest.mark.parametrize("workers", [1, 4])
async def test_a_refusal_that_no_other_row_can_explain_stops_the_run_and_names_the_incident(workers: int) -> None:
    carrier = Guarded(lambda call: call.label == "20270101-1")
    async with prepared([task("a", incident="20270101-1"), task("b", incident="20270101-1")], carrier) as run:
        stop = await run.engine.run()

        assert stop is not None
        assert (stop.code, "No. It was about 20270101-1;" in stop.message) == ("unauthorized", True)
        assert run.states() == ["pending", "pending"]
        assert len(carrier.carried) <= 2


@pytest.mark.asyncio
async def test_a_forbidden_source_fails_and_links_of_others_are_removed() -> None:
    entries = [links(f"x-{n}", source=f"s-{n % 10}") for n in range(60)]
    carrier = Guarded(lambda call: call.label == "s-4")
    async with prepared(entries, carrier, links_per_call=2) as run:
        assert await run.engine.run() is None

        assert run.engine.counts == {"ok": 54, "failed": 6}


@pytest.mark.asyncio
async def test_a_run_that_is_stopped_while_a_refusal_is_not_explained_leaves_that_row_as_it_was() -> None:
    carrier = Guarded(lambda call: call.label == "20270101-0")

    async def stop(call: Call) -> None:
        if call.label == "20270101-1":
            run.engine.stop(STOP)

    carrier.on_wire = stop
    async with prepared(about(40, 40), carrier, workers=1) as run:
        assert await run.engine.run() == STOP

        assert run.states()[0] in {"pending", "failed"}
        assert run.states().count("pending") >= 38
