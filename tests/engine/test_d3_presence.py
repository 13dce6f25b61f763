"""A maintenance window burns a few tasks, whatever its length: the rest waits for D3, and is sent once."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from d3async.d3.call import Account, ApiRequest, Call
from d3async.d3.response import ApiResponse, Reply, TransportFailure
from d3async.engine.d3_presence import PROBE
from d3async.engine.delivery import Delivered, Delivery, NoAttemptLog, Stopper
from d3async.policy.retry import Policy
from d3async.ratelimit.limiter import Limiter
from tests.ratelimit.test_limiter import VirtualLoop, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from d3async.policy.halt_and_exit_codes import Stop

IN_FLIGHT = 32
SIGN_IN = b"<html><head><title>Sign In</title></head><body>Please sign in</body></html>"
PAGES = {
    "302": (302, {"location": "https://login.example/saml?x=1"}, b""),
    "503": (503, {}, b"<h1>Maintenance</h1>"),
    "200": (200, {}, SIGN_IN),
}


class Site:
    """D3 behind a proxy that answers for it from *begin* for *seconds*; each answer takes 50 ms."""

    def __init__(self, loop: VirtualLoop, page: str, *, begin: float, seconds: float, retry_after: str = "") -> None:
        self._loop = loop
        self._window = (begin, begin + seconds)
        status, headers, body = PAGES[page]
        self._page = ApiResponse(status, headers | ({"retry-after": retry_after} if retry_after else {}), body)
        self.created: Counter[str] = Counter()
        self.probes = self.pages = self._in_flight = self.most_before_d3 = 0
        self._answered = False
        self.can_probe = True

    async def send(
        self, request: ApiRequest, _: Any, *, on_sent: Callable[[], None] | None = None
    ) -> ApiResponse | TransportFailure:
        if on_sent:
            on_sent()
        self._in_flight += 1
        self.probes += request is PROBE
        if not self._answered:
            self.most_before_d3 = max(self.most_before_d3, self._in_flight)
        await asyncio.sleep(0.05)
        self._in_flight -= 1
        if self._window[0] <= self._loop.time() < self._window[1]:
            self.pages += request is not PROBE
            return self._page
        self._answered = True
        try:
            name = json.loads(request.body)["CommandParams"]["Task Name"]
        except ValueError:
            return ApiResponse(400, {}, b'{"Error": "The body of the request must be a valid JSON object"}')
        self.created[name] += 1
        return ApiResponse(200, {}, b'{"error": "", "returnData": "Successful"}')

    # what auth does
    def headers(self, command: str, *, username: str, site: str) -> dict[str, str]:
        return {}

    def can(self, command: str) -> bool:
        return self.can_probe

    def mask(self, text: str) -> str:
        return text


async def sent(
    loop: VirtualLoop, site: Site, count: int = 500, *, max_outage: float = 900.0
) -> tuple[list[Delivered], Stop | None]:
    delivery = Delivery(
        transport=site,  # type: ignore[arg-type] - the site stands for both
        limiter=Limiter(rate=50.0, concurrency=IN_FLIGHT, clock=loop.time, random=lambda: 0.5),
        auth=site,  # type: ignore[arg-type]
        account=Account("Admin", "SOC"),
        policy=Policy(),
        random=lambda: 0.5,
        max_outage=max_outage,
        clock=loop.time,
        wall=lambda: 1_796_144_400.0,
    )
    stopper = Stopper()
    calls = [
        Call(command="CreateTask", params={"Task Name": f"t{n}"}, username=None, site="", source=0, label=str(n))
        for n in range(count)
    ]
    done = await asyncio.gather(
        *(delivery.deliver(call, repeatable=False, log=NoAttemptLog(), stopper=stopper) for call in calls)
    )
    return done, stopper.reason


@pytest.mark.parametrize("seconds", [10.0, 60.0, 600.0])
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("retry_after", ["", "30"])
def test_a_window_of_any_length_burns_what_was_in_flight_and_no_task_is_made_twice(
    page: str, seconds: float, retry_after: str
) -> None:
    async def test(loop: VirtualLoop) -> None:
        site = Site(loop, page, begin=3.0, seconds=seconds, retry_after=retry_after)

        done, stop = await sent(loop, site)

        ok = sum(isinstance(one.answer, Reply) for one in done)
        assert stop is None
        assert 3 <= 500 - ok <= 3 + IN_FLIGHT
        assert len(site.created) == ok
        assert max(site.created.values()) == 1
        assert site.most_before_d3 == 1
        assert 1 <= site.probes <= (seconds / 30 + 2 if retry_after else 20)

    run(test)


def test_a_window_beyond_max_outage_stops_the_run_and_leaves_the_rest() -> None:
    async def test(loop: VirtualLoop) -> None:
        site = Site(loop, "503", begin=3.0, seconds=7200.0)

        done, stop = await sent(loop, site, max_outage=60.0)

        assert stop is not None
        assert (stop.code, stop.message) == (
            "not_d3", "not D3: ‘Maintenance’ answers (HTTP 503); --max-outage allows 60 s of it"
        )  # fmt: skip
        assert site.pages <= 3 + IN_FLIGHT
        assert sum(one.answer is None for one in done) >= 300
        assert loop.time() < 100

    run(test)


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("302", "HTTP 302 sends to https://login.example/saml"),
        ("503", "‘Maintenance’ answers (HTTP 503)"),
        ("200", "a page titled ‘Sign In’ answers (HTTP 200)"),
    ],
)
def test_a_page_before_d3_has_ever_answered_costs_one_request(page: str, words: str) -> None:
    async def test(loop: VirtualLoop) -> None:
        site = Site(loop, page, begin=0.0, seconds=600.0)

        done, stop = await sent(loop, site)

        assert stop is not None
        assert (stop.code, stop.message) == ("not_d3", f"not D3: {words}")
        assert (site.pages, site.probes) == (1, 0)
        assert sum(one.answer is not None for one in done) == 1

    run(test)


def test_without_a_key_for_the_harmless_request_one_row_at_a_time_finds_out() -> None:
    async def test(loop: VirtualLoop) -> None:
        site = Site(loop, "503", begin=3.0, seconds=60.0)
        site.can_probe = False

        done, stop = await sent(loop, site)

        ok = sum(isinstance(one.answer, Reply) for one in done)
        assert (stop, site.probes) == (None, 0)
        assert 500 - ok <= 3 + IN_FLIGHT + 8
        assert max(site.created.values()) == 1

    run(test)
