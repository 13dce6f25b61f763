"""The limiter on a clock of its own: an event loop whose time jumps to the next timer, so that nothing sleeps."""

import asyncio
import selectors
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from random import Random
from typing import Any

import pytest

from benchmarks.throttle.measures import most_in_a_second
from benchmarks.throttle.servers import SlidingLog
from d3async.ratelimit.limiter import Limiter


class _Jump(selectors.DefaultSelector):
    """A selector that does not wait: the loop's time goes on instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everyone waits for ever"
        self.now += max(timeout, 1e-6)  # a step of the loop takes time too
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now

    def freeze(self, seconds: float) -> None:
        """Stand still while the world goes on, as under SIGSTOP or a callback that does not yield."""
        self._jump.now += seconds


type_of_test = Callable[[VirtualLoop], Coroutine[Any, Any, None]]


def run(test: type_of_test) -> None:
    loop = VirtualLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(test(loop))


def limiter(loop: VirtualLoop, **options: Any) -> Limiter:
    return Limiter(**({"clock": loop.time, "random": lambda: 0.5} | options))


async def stream(limit: Limiter, count: int, *, workers: int = 8) -> list[float]:
    """Let *workers* draw tokens until there are *count*; return the times of the grants."""
    grants: list[float] = []

    async def worker() -> None:
        while len(grants) < count:
            sent_at = await limit.token()
            grants.append(sent_at)
            limit.accepted(sent_at)

    await asyncio.gather(*(worker() for _ in range(workers)))
    return grants


@pytest.mark.parametrize("rate", [0.5, 1, 2, 3, 10, 50, 500])
def test_never_more_than_the_rate_in_any_second_and_little_less(rate: float) -> None:
    async def test(loop: VirtualLoop) -> None:
        grants = await stream(limiter(loop, rate=rate), max(10, int(rate * 4)))

        assert most_in_a_second(grants) <= max(rate, 1)
        assert (len(grants) - 1) / (grants[-1] - grants[0]) >= 0.965 * rate

    run(test)


def test_a_rate_too_high_to_matter_costs_no_timers() -> None:
    async def test(loop: VirtualLoop) -> None:
        grants = await stream(limiter(loop, rate=100_000), 5_000)

        assert grants[-1] - grants[0] < 0.06

    run(test)


@pytest.mark.parametrize("freeze", [0.3, 1.0, 20.0])
def test_a_freeze_is_not_made_up_for_with_a_burst(freeze: float) -> None:
    """Two requests granted before it may be written after it, and still no second holds more than fifty."""

    async def test(loop: VirtualLoop) -> None:
        limit = limiter(loop)
        before = await stream(limit, 100)
        loop.freeze(freeze)
        thawed = loop.time()
        after = await stream(limit, 100)

        assert most_in_a_second([*before[:-2], thawed, thawed, *after]) <= 50

    run(test)


def test_a_freeze_while_everyone_waits_is_not_made_up_for_either() -> None:
    async def test(loop: VirtualLoop) -> None:
        limit = limiter(loop)
        loop.call_later(1.0, loop.freeze, 20.0)
        grants = await stream(limit, 200)

        assert most_in_a_second([*grants, 21.0, 21.0]) <= 50

    run(test)


@pytest.mark.parametrize(("busy", "share"), [(0.010, 0.95), (0.030, 0.9)])
def test_a_busy_loop_costs_little_of_the_rate(busy: float, share: float) -> None:
    async def test(loop: VirtualLoop) -> None:
        def hog() -> None:
            loop.freeze(busy)
            loop.call_later(0.1 - busy, hog)

        hog()
        grants = await stream(limiter(loop), 500)

        assert most_in_a_second(grants) <= 50
        assert (len(grants) - 1) / (grants[-1] - grants[0]) >= share * 50

    run(test)


def test_first_come_first_served_with_fifty_thousand_waiters_and_a_busy_loop() -> None:
    async def test(loop: VirtualLoop) -> None:
        def hog() -> None:
            loop.freeze(0.030)
            loop.call_later(0.070, hog)

        limit = limiter(loop, rate=5_000)
        served: list[int] = []

        async def waiter(place: int) -> None:
            await limit.token()
            served.append(place)

        hog()
        async with asyncio.TaskGroup() as group:
            for place in range(50_000):
                group.create_task(waiter(place))

        assert served == sorted(served)

    run(test)


def test_retries_go_first_in_their_own_order() -> None:
    async def test(loop: VirtualLoop) -> None:
        limit = limiter(loop, rate=10)
        await limit.token()
        served: list[str] = []

        async def waiter(name: str) -> None:
            await limit.token(head=name.startswith("again"))
            served.append(name)

        async with asyncio.TaskGroup() as group:
            for name in ("one", "two", "again one", "three", "again two"):
                group.create_task(waiter(name))

        assert served == ["again one", "again two", "one", "two", "three"]

    run(test)


def test_a_cancelled_wait_costs_nobody_a_token_a_place_or_the_order() -> None:
    async def test(loop: VirtualLoop) -> None:
        limit = limiter(loop, rate=10)
        await limit.token()
        served: list[int] = []

        async def waiter(place: int) -> None:
            await limit.token()
            served.append(place)

        tasks = [loop.create_task(waiter(place)) for place in range(30)]
        await asyncio.sleep(0.5)
        for task in tasks[1::3]:
            task.cancel()
        began, had = loop.time(), len(served)
        await asyncio.gather(*tasks, return_exceptions=True)

        assert served == sorted(served)
        assert len(served) >= 20
        assert loop.time() - began == pytest.approx((len(served) - had) / 9.8, abs=0.11)
        assert limit.numbers.waiting == 0
        assert limit.numbers.granted == len(served) + 1

    run(test)


@pytest.mark.parametrize("steps", range(8))
@pytest.mark.parametrize("others", [0, 1])
def test_cancelling_at_any_step_around_the_grant_loses_no_token(others: int, steps: int) -> None:
    """The grant is made in one step of the loop and taken in a later one; the cancellation comes at each."""

    async def test(loop: VirtualLoop) -> None:
        limit = limiter(loop, rate=1)
        due = 1 / limit.numbers.rate - 0.01
        await limit.token()
        task = loop.create_task(limit.token())
        waiting = [loop.create_task(limit.token()) for _ in range(others)]

        def cancel_after(left: int) -> None:
            if left:
                loop.call_soon(cancel_after, left - 1)
            else:
                task.cancel()

        loop.call_at(due, cancel_after, steps)
        await asyncio.wait([task])
        next_at = await waiting[0] if waiting else await limit.token()

        assert next_at == pytest.approx(due if task.cancelled() else 2 * due, abs=0.012)

    run(test)


def test_a_token_that_is_not_used_goes_to_the_next_in_line_and_is_not_counted() -> None:
    async def test(loop: VirtualLoop) -> None:
        limit = limiter(loop, rate=1)
        first = await limit.token()
        waiter = loop.create_task(limit.token())
        await asyncio.sleep(0.1)
        limit.unused(first)

        assert await waiter == pytest.approx(0.1, abs=0.001)
        assert limit.numbers.granted == 1
        assert await limit.token() >= 1.0

    run(test)


def test_a_token_that_went_stale_gives_nobody_an_early_turn() -> None:
    async def test(loop: VirtualLoop) -> None:
        limit = limiter(loop, rate=1)
        first = await limit.token()
        second = await limit.token()
        limit.unused(first)

        assert await limit.token() - second >= 1.0

    run(test)


@pytest.mark.parametrize(("halves", "goodput", "refused"), [(False, 0.965, 0.0005), (True, 0.93, 0.015)])
def test_the_limiter_itself_does_what_the_scoreboard_says_of_its_controller(
    halves: bool, goodput: float, refused: float
) -> None:
    """64 workers, a log that counts refusals, 20 to 26 ms each way and 0.1 s of service, for a minute."""

    async def test(loop: VirtualLoop) -> None:
        limit = limiter(loop, concurrency=64, random=Random(1).random)
        server, dice, answers, wire = SlidingLog(50, count_refused=True), Random(2), list[bool](), list[float]()

        async def worker() -> None:
            again = False
            while loop.time() < 60:
                sent_at = await limit.token(head=again)
                wire.append(loop.time())
                await asyncio.sleep(0.02 + 0.006 * dice.random())
                server.limit = 25 if halves and loop.time() > 30 else 50
                answers.append(server.admit(loop.time()))
                await asyncio.sleep(0.12 + 0.006 * dice.random() if answers[-1] else 0.02)
                again = not answers[-1]
                if again:
                    limit.throttled(sent_at, None)
                else:
                    limit.accepted(sent_at)

        await asyncio.gather(*(worker() for _ in range(64)))

        assert answers.count(True) >= goodput * (2250 if halves else 3000)
        assert answers.count(False) <= refused * len(answers)
        assert most_in_a_second(wire) <= 50

    run(test)


def test_nobody_left_waiting_leaves_no_task_behind() -> None:
    async def test(loop: VirtualLoop) -> None:
        limit = limiter(loop)
        limit.throttled(await limit.token(), 300.0)
        task = loop.create_task(limit.token())
        await asyncio.sleep(1.0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0)

        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(test)


def test_a_stated_wait_stops_everyone_until_it_ends_and_is_counted_once() -> None:
    async def test(loop: VirtualLoop) -> None:
        limit = limiter(loop)
        limit.throttled(await limit.token(), 3.0)
        assert limit.opens_in >= 3.0
        grants = await asyncio.gather(*(limit.token() for _ in range(5)))

        assert min(grants) >= 3.0
        assert limit.opens_in == 0.0
        assert limit.numbers.paused_s == pytest.approx(min(grants), abs=0.01)
        assert limit.numbers.throttled == 1

    run(test)


def test_a_gate_that_closes_while_the_head_of_the_queue_waits_holds_it_too() -> None:
    async def test(loop: VirtualLoop) -> None:
        limit = limiter(loop, rate=1)
        sent_at = await limit.token()
        task = loop.create_task(limit.token())
        await asyncio.sleep(0.5)
        limit.throttled(sent_at, 10.0)

        assert await task >= 10.5

    run(test)


def test_an_outage_stops_everyone_and_one_request_tries() -> None:
    async def test(loop: VirtualLoop) -> None:
        limit = limiter(loop)
        sent_at = await limit.token()
        limit.unreachable(sent_at)
        assert limit.outages == 1
        tasks = [loop.create_task(limit.token()) for _ in range(5)]
        await asyncio.sleep(2.0)
        assert [task.done() for task in tasks] == [True, False, False, False, False]

        limit.accepted(tasks[0].result())
        grants = await asyncio.gather(*tasks)
        assert limit.outages == 0
        assert grants[1] == pytest.approx(2.0, abs=0.03)

    run(test)


def test_the_numbers_say_what_is_going_on() -> None:
    async def test(loop: VirtualLoop) -> None:
        limit = limiter(loop, concurrency=4)
        async with limit.slot(), limit.slot():
            numbers = limit.numbers
            assert (numbers.in_flight, numbers.in_flight_cap, numbers.ceiling) == (2, 4, 50)
            assert (numbers.granted, numbers.waiting, numbers.throttled, numbers.outages) == (0, 0, 0, 0)
            assert numbers.learnt is None
        assert limit.numbers.in_flight == 0
        assert limiter(loop, rate=None).numbers.ceiling is None

    run(test)


def test_slots_are_given_first_come_first_served_and_strain_makes_them_fewer() -> None:
    async def test(loop: VirtualLoop) -> None:
        limit = limiter(loop, concurrency=4)
        most = 0
        order: list[int] = []

        async def holder(place: int) -> None:
            nonlocal most
            async with limit.slot():
                order.append(place)
                most = max(most, limit.numbers.in_flight)
                await asyncio.sleep(1.0)

        async with asyncio.TaskGroup() as group:
            for place in range(10):
                group.create_task(holder(place))
        assert order == sorted(order)
        assert most == 4

        limit.strained(loop.time())
        most = 0
        async with asyncio.TaskGroup() as group:
            for place in range(10):
                group.create_task(holder(place))
        assert most == 2

    run(test)


def test_a_slot_that_is_cancelled_while_it_is_given_goes_to_the_next() -> None:
    async def test(loop: VirtualLoop) -> None:
        limit = limiter(loop, concurrency=1)

        async def holder() -> None:
            async with limit.slot():
                await asyncio.sleep(1.0)

        first, second, third = (loop.create_task(holder()) for _ in range(3))
        await asyncio.sleep(0.5)
        loop.call_at(1.0, second.cancel)
        await asyncio.wait([first, second, third])

        assert limit.numbers.in_flight == 0
        assert third.exception() is None

    run(test)


def test_a_late_request_counts_again_and_a_wider_spread_lowers_the_rate() -> None:
    async def test(loop: VirtualLoop) -> None:
        limit = limiter(loop)
        for _ in range(50):
            limit.settle_jitter(0.003)
        await limit.token()
        limit.settle_jitter(0.060)
        first, second = await limit.token(), await limit.token()

        assert second - first > 0.03 or first > 0.03

    run(test)


def test_a_second_open_loop_is_refused_by_name() -> None:
    limit = Limiter()
    with asyncio.Runner() as first, asyncio.Runner() as second:
        first.run(limit.token())
        with pytest.raises(RuntimeError, match="another event loop"):
            second.run(limit.token())
        with pytest.raises(RuntimeError, match="another event loop"):
            second.run(limit.slot().__aenter__())


def test_a_second_live_loop_in_another_thread_is_refused() -> None:
    limit = Limiter()
    errors: list[BaseException] = []

    async def elsewhere() -> None:
        await limit.token()

    def other() -> None:
        try:
            asyncio.run(elsewhere())
        except RuntimeError as error:
            errors.append(error)

    async def here() -> None:
        await limit.token()
        await asyncio.to_thread(other)

    asyncio.run(here())
    assert len(errors) == 1


def test_a_limiter_outlives_its_loop() -> None:
    limit = Limiter()
    asyncio.run(limit.token())
    asyncio.run(limit.token())

    assert limit.numbers.granted == 2


@pytest.mark.parametrize("options", [{"rate": 0}, {"rate": -1}, {"rate": float("inf")}, {"rate": float("nan")}])
def test_a_rate_must_be_a_positive_number(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="rate"):
        Limiter(**options)


def test_concurrency_must_be_at_least_one() -> None:
    with pytest.raises(ValueError, match="concurrency"):
        Limiter(concurrency=0)


def test_a_sleep_that_fails_is_the_failure_of_all_who_wait() -> None:
    """A dispenser that died silently would leave them waiting for ever."""

    async def broken(seconds: float) -> None:
        raise OSError("no timers today")

    async def test(loop: VirtualLoop) -> None:
        limit = limiter(loop, sleep=broken)
        limit.throttled(await limit.token(), 3.0)
        results = await asyncio.gather(*(limit.token() for _ in range(3)), return_exceptions=True)

        assert [type(result) for result in results] == [OSError] * 3

    run(test)


def _uvloop() -> Callable[[], asyncio.AbstractEventLoop]:
    return pytest.importorskip("uvloop").new_event_loop


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, _uvloop], ids=["asyncio", "uvloop"])
def test_on_a_real_clock_too_no_second_holds_more_than_fifty(factory: Callable[[], Any]) -> None:
    made: Awaitable[list[float]] | None = None
    with asyncio.Runner(loop_factory=_uvloop() if factory is _uvloop else factory) as runner:
        made = stream(Limiter(), 70)
        grants = runner.run(made)

    assert most_in_a_second(grants) <= 50
    assert (len(grants) - 1) / (grants[-1] - grants[0]) > 25
    assert threading.active_count() < 50
    assert grants[-1] <= time.monotonic()
