"""One call to its last word: what is sent again, and what a stop or a cancel leaves behind."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import pytest

from d3async.d3.call import Account, ApiRequest, Call
from d3async.d3.response import AmbiguousAnswer, ApiResponse, Refused, Reply, TransportFailure, Unauthorized
from d3async.engine.delivery import STALE_AFTER, Attempt, Delivered, Delivery, Stopper
from d3async.errors import FencedError, SettingsError
from d3async.policy.halt_and_exit_codes import Stop
from d3async.policy.retry import Policy

TASK = Call("CreateTask", {"Task Name": "a"}, None, "", 1, "20220125-1", job=1)
LINKS = Call("RemoveLinkedIncidents", {"Source Incident Number": "s"}, "bob", "SOC", 1, "s", items=("a-1", "b-2"))


def answer(status: int, body: Any = None, **headers: str) -> ApiResponse:
    return ApiResponse(status, headers, json.dumps(body if body is not None else {}).encode())


OK = answer(200, {"error": "", "returnData": "Successful"})
UNSENT = TransportFailure(sent=False, code="refused", message="Connection refused.")
LOST = TransportFailure(sent=True, code="connection_lost", message="The connection was lost.")


class Scene:
    """Limiter, journal and transport in one, noting what happens in order; *at* names where to wait."""

    def __init__(self, *answers: ApiResponse | TransportFailure) -> None:
        self.answers = list(answers)
        self.noted: list[str] = []
        self.requests: list[ApiRequest] = []
        self.hooks: dict[str, Callable[[], Awaitable[None]]] = {}
        self.now = 0.0
        self.slots = self.tokens = self.outages = 0
        self.blocked_for = 0.0
        self.auth_error: Exception | None = None

    async def _reach(self, where: str) -> None:
        if where in self.hooks:
            await self.hooks[where]()

    # what a limiter does
    def slot_now(self) -> bool:
        return False

    async def take_slot(self) -> None:
        await self._reach("slot")
        self.slots += 1

    def leave_slot(self) -> None:
        self.slots -= 1

    async def free_token(self) -> float | None:
        return None

    async def token(self, *, head: bool = False) -> float:
        await self._reach("token")
        self.tokens += 1
        self.noted.append("token, head" if head else "token")
        return self.now

    def settle_jitter(self, _: float) -> None:
        pass

    def _fate(self, word: str) -> None:
        self.tokens -= 1
        self.noted.append(word)

    def unused(self, _: float) -> None:
        self._fate("unused")

    def accepted(self, _: float) -> None:
        self._fate("accepted")

    def strained(self, _: float) -> None:
        self._fate("strained")

    def unreachable(self, _: float) -> None:
        self.outages += 1
        self._fate("unreachable")

    def throttled(self, _: float, __: float | None) -> None:
        self._fate("throttled")

    # what a journal does
    async def claim(self, _: Call, __: float) -> None:
        await self._reach("claim")
        self.noted.append("claim")

    def release(self, _: Call, *, sent: bool) -> None:
        self.noted.append("release, left" if sent else "release")

    # what a transport does
    async def send(
        self, request: ApiRequest, headers: Any, *, on_sent: Callable[[], None] | None = None
    ) -> ApiResponse | TransportFailure:
        await self._reach("connect")
        self.requests.append(request)
        found = self.answers.pop(0)
        if on_sent and not (isinstance(found, TransportFailure) and not found.sent):
            on_sent()
            self.noted.append("wire")
            await self._reach("wire")
        return found

    # what auth does
    def headers(self, command: str, *, username: str, site: str) -> dict[str, str]:
        if self.auth_error:
            raise self.auth_error
        return {"d3key": "secret-key"}

    def mask(self, text: str) -> str:
        return text.replace("secret-key", "***")


def delivery(scene: Scene, **options: Any) -> Delivery:
    return Delivery(
        transport=scene,  # type: ignore[arg-type] - a scene stands for all of them
        limiter=scene,  # type: ignore[arg-type]
        auth=scene,  # type: ignore[arg-type]
        account=Account("Admin", "Security Operations"),
        policy=Policy(max_attempts=options.pop("max_attempts", 4), max_wait=300.0),
        random=lambda: 0.0,
        clock=lambda: scene.now,
        wall=lambda: 1_796_144_400.0,
        **options,
    )


async def deliver(scene: Scene, call: Call = TASK, *, stopper: Stopper | None = None, **options: Any) -> Delivered:
    return await delivery(scene, **options).deliver(
        call, repeatable=call.command != "CreateTask", log=scene, stopper=stopper or Stopper()
    )


@pytest.mark.asyncio
async def test_slot_token_claim_wire_in_this_order() -> None:
    scene = Scene(OK)
    seen: list[str] = []
    for where in ("slot", "token", "claim", "connect", "wire"):

        async def note(where: str = where) -> None:
            seen.append(f"{where} {scene.slots} {scene.tokens}")

        scene.hooks[where] = note
    done = await deliver(scene)

    assert seen == ["slot 0 0", "token 1 0", "claim 1 1", "connect 1 1", "wire 1 1"]
    assert isinstance(done.answer, Reply)
    assert (done.attempts, scene.slots, scene.tokens) == (1, 0, 0)


@pytest.mark.asyncio
async def test_a_calls_own_user_and_site_win_over_the_accounts() -> None:
    scene = Scene(OK, OK)
    await deliver(scene, TASK)
    await deliver(scene, LINKS)

    assert [json.loads(request.body) for request in scene.requests] == [
        {"Username": "Admin", "Site": "Security Operations", "CommandParams": {"Task Name": "a"}},
        {
            "Username": "bob",
            "Site": "SOC",
            "CommandParams": {
                "Linked Incident Numbers to be Removed": ["a-1", "b-2"],
                "Source Incident Number": "s",
            },
        },
    ]


OUT = "token claim wire"
AGAIN = "token, head claim wire"
# what happens, the call, how its attempts end, its last word, requests that left, everything noted in order
SEQUENCES: list[tuple[str, Call, list[Any], type, int, list[str]]] = [
    ("a task that was lost is sent once", TASK, [LOST], TransportFailure, 1, [OUT, "strained"]),
    ("a task refused is sent once", TASK, [answer(400)], Refused, 1, [OUT, "accepted"]),
    ("a task on 500 is sent once", TASK, [answer(500)], AmbiguousAnswer, 1, [OUT, "strained"]),
    ("a task that never left is sent again", TASK, [UNSENT, UNSENT, OK], Reply, 1,
     ["token claim unreachable release", "token, head claim unreachable release", AGAIN, "accepted"]),
    ("a task throttled is sent again", TASK, [answer(429), OK], Reply, 2,
     [OUT, "throttled release, left", AGAIN, "accepted"]),
    ("links that were lost are sent again", LINKS, [LOST, OK], Reply, 2, [OUT, "strained", AGAIN, "accepted"]),
    ("links are sent four times at most", LINKS, [answer(500)] * 4, AmbiguousAnswer, 4,
     [OUT, "strained", AGAIN, "strained", AGAIN, "strained", AGAIN, "strained"]),
    ("a 429 between is not charged", LINKS, [LOST, answer(429), LOST, UNSENT, LOST, LOST], TransportFailure, 5,
     [OUT, "strained", AGAIN, "throttled release, left", AGAIN, "strained",
      "token, head claim unreachable release", AGAIN, "strained", AGAIN, "strained"]),
]  # fmt: skip


@pytest.mark.asyncio
@pytest.mark.parametrize(("call", "answers", "kind", "attempts", "noted"), [row[1:] for row in SEQUENCES],
                         ids=[row[0] for row in SEQUENCES])  # fmt: skip
async def test_what_happens_in_which_order(
    call: Call, answers: Sequence[Any], kind: type, attempts: int, noted: list[str]
) -> None:
    scene = Scene(*answers)
    done = await deliver(scene, call)

    assert type(done.answer) is kind
    assert done.attempts == attempts
    assert " ".join(scene.noted) == " ".join(noted)
    assert (scene.slots, scene.tokens, scene.answers) == (0, 0, [])


@pytest.mark.asyncio
async def test_after_doubt_the_call_says_that_its_items_were_tried() -> None:
    done = await deliver(Scene(LOST, OK), LINKS)

    assert done.call.tried == {"a-1", "b-2"}


@pytest.mark.asyncio
async def test_a_401_is_an_answer_whose_meaning_is_not_decided_here() -> None:
    stopper = Stopper()
    scene = Scene(LOST, answer(401, {"Error": "Invalid authentication key."}))
    done = await deliver(scene, LINKS, stopper=stopper)

    assert (stopper.reason, done.answer, done.attempts) == (None, Unauthorized("Invalid authentication key."), 2)
    assert done.call.maybe
    assert scene.noted[-1] == "accepted"


@pytest.mark.asyncio
async def test_a_call_that_is_not_admitted_leaves_nothing_behind() -> None:
    scene = Scene(OK)
    done = await deliver(scene, stopper=Stopper(admit=lambda _: False))

    assert (done.answer, done.attempts, done.kept_back) == (None, 0, True)
    assert (scene.noted, scene.slots, scene.tokens) == (["token", "unused"], 0, 0)


@pytest.mark.asyncio
async def test_a_server_that_is_gone_stops_the_run_after_so_many_failures() -> None:
    stopper = Stopper()
    scene = Scene(*[UNSENT] * 3)
    done = await deliver(scene, stopper=stopper, max_outages=3)

    assert stopper.reason is not None
    assert stopper.reason.code == "unreachable"
    assert "3 times in a row" in stopper.reason.message
    assert (done.answer, done.attempts) == (None, 0)


@pytest.mark.asyncio
async def test_a_doubt_is_never_taken_for_an_outage() -> None:
    """The attempt left: that the server was gone before does not make it undone."""
    scene = Scene(LOST, OK)
    scene.outages = 99
    stopper = Stopper()
    done = await deliver(scene, LINKS, stopper=stopper)

    assert stopper.reason is None
    assert isinstance(done.answer, Reply)


@pytest.mark.asyncio
async def test_nothing_but_429_for_longer_than_max_wait_stops_the_run() -> None:
    scene = Scene(answer(429))
    scene.blocked_for = 301.0
    stopper = Stopper()
    done = await deliver(scene, stopper=stopper)

    assert stopper.reason is not None
    assert stopper.reason.code == "throttled"
    assert done.answer is None


@pytest.mark.asyncio
async def test_the_budget_of_retries_is_shared_by_all_calls() -> None:
    scene = Scene(*[answer(500)] * 400)
    shared = delivery(scene, max_attempts=9)
    attempts = [
        (await shared.deliver(LINKS, repeatable=True, log=scene, stopper=Stopper())).attempts for _ in range(15)
    ]

    assert attempts == [9] * 12 + [5, 1, 1]  # 12 x 8 retries, then the 4 that are left of 100


BEFORE_THE_WIRE = ["slot", "token", "claim", "connect"]


@pytest.mark.asyncio
@pytest.mark.parametrize("call", [TASK, LINKS], ids=["task", "links"])
@pytest.mark.parametrize(
    ("where", "first"),
    [
        ("slot", []),
        *((where, first) for where in ("token", "claim") for first in ([], [answer(429)], [UNSENT])),
    ],
)
async def test_a_stop_before_the_wire_lets_nothing_leave_and_leaves_nothing(
    call: Call, first: list[Any], where: str
) -> None:
    scene = Scene(*first, OK)
    stopper = Stopper()

    async def stop() -> None:
        if len(scene.answers) == 1:
            stopper.stop(Stop("interrupted", "Ctrl-C"))

    scene.hooks[where] = stop
    done = await deliver(scene, call, stopper=stopper)

    assert done.answer is None
    assert len(scene.answers) == 1
    assert (scene.slots, scene.tokens) == (0, 0)
    assert scene.noted.count("claim") == scene.noted.count("release") + scene.noted.count("release, left")


@pytest.mark.asyncio
async def test_a_stop_after_doubt_keeps_the_doubt() -> None:
    scene = Scene(LOST, OK)
    stopper = Stopper()

    async def stop() -> None:
        if len(scene.answers) == 1:
            stopper.stop(Stop("interrupted", "Ctrl-C"))

    scene.hooks["token"] = stop
    done = await deliver(scene, LINKS, stopper=stopper)

    assert isinstance(done.answer, TransportFailure)
    assert (done.call.tried, done.attempts, len(scene.answers)) == ({"a-1", "b-2"}, 1, 1)


@pytest.mark.asyncio
async def test_a_stop_does_not_touch_what_is_on_the_wire() -> None:
    scene = Scene(OK)
    stopper = Stopper()

    async def stop() -> None:
        stopper.stop(Stop("interrupted", "Ctrl-C"))
        await asyncio.sleep(0)

    scene.hooks["wire"] = stop
    assert isinstance((await deliver(scene, stopper=stopper)).answer, Reply)


@pytest.mark.asyncio
@pytest.mark.parametrize("native", [False, True], ids=["scope", "task"])
@pytest.mark.parametrize("where", BEFORE_THE_WIRE)
async def test_a_cancel_before_the_wire_leaves_no_slot_no_token_and_no_mark(where: str, native: bool) -> None:
    scene = Scene(OK)
    reached = asyncio.Event()

    async def wait() -> None:
        reached.set()
        await asyncio.sleep(0.01 if where == "claim" and not native else 60)

    scene.hooks[where] = wait
    scope = anyio.CancelScope()

    async def run() -> None:
        with scope:
            await deliver(scene)

    running = asyncio.create_task(run())
    await reached.wait()
    if native:
        running.cancel()
    else:
        scope.cancel()
    await asyncio.wait([running])

    assert (scene.slots, scene.tokens) == (0, 0)
    assert scene.noted.count("claim") == scene.noted.count("release")
    assert "wire" not in scene.noted


@pytest.mark.asyncio
async def test_a_cancel_on_the_wire_keeps_the_mark_and_is_counted() -> None:
    scene = Scene(OK)
    seen: list[Attempt] = []
    reached = asyncio.Event()

    async def wait() -> None:
        reached.set()
        await asyncio.sleep(60)

    scene.hooks["wire"] = wait
    running = asyncio.create_task(deliver(scene, on_attempt=seen.append))
    await reached.wait()
    running.cancel()
    await asyncio.wait([running])

    assert scene.noted == ["token", "claim", "wire", "strained"]
    assert (scene.slots, scene.tokens) == (0, 0)
    assert [attempt.answer.code for attempt in seen] == ["cancelled"]  # type: ignore[union-attr] - a Broken


@pytest.mark.asyncio
async def test_a_claim_that_is_refused_lets_nothing_leave() -> None:
    scene = Scene(OK)

    async def refuse() -> None:
        raise FencedError("somebody else")

    scene.hooks["claim"] = refuse
    with pytest.raises(FencedError):
        await deliver(scene)

    assert scene.noted == ["token", "unused"]
    assert (scene.slots, scene.answers) == (0, [OK])


@pytest.mark.asyncio
async def test_a_missing_key_is_found_before_anything_leaves() -> None:
    scene = Scene(OK)
    scene.auth_error = SettingsError("D3_API_KEY is not set")
    with pytest.raises(SettingsError):
        await deliver(scene)

    assert scene.noted == ["token", "claim", "unused", "release"]
    assert scene.slots == 0


@pytest.mark.asyncio
async def test_a_token_grown_stale_while_the_disk_stalled_is_exchanged() -> None:
    scene = Scene(OK)

    async def stall() -> None:
        scene.now += STALE_AFTER + 0.001

    scene.hooks["claim"] = stall
    await deliver(scene)

    assert scene.noted == ["token", "claim", "unused", "token, head", "wire", "accepted"]


@pytest.mark.asyncio
async def test_a_stop_while_a_stale_token_is_exchanged_takes_the_mark_back() -> None:
    scene = Scene(OK)
    stopper = Stopper()

    async def stall() -> None:
        scene.now += STALE_AFTER + 0.001
        stopper.stop(Stop("interrupted", "Ctrl-C"))

    scene.hooks["claim"] = stall
    done = await deliver(scene, stopper=stopper)

    assert (done.answer, scene.noted[-1], scene.tokens) == (None, "release", 0)


@pytest.mark.asyncio
async def test_observers_hear_of_every_request_that_left_and_of_no_other() -> None:
    seen: list[Attempt] = []
    await deliver(Scene(UNSENT, answer(429), LOST, OK), LINKS, on_attempt=seen.append)

    assert [attempt.number for attempt in seen] == [1, 2, 3]
    assert [type(attempt.answer).__name__ for attempt in seen] == ["Throttled", "TransportFailure", "Reply"]


@pytest.mark.asyncio
async def test_a_key_that_the_server_says_back_goes_no_further() -> None:
    done = await deliver(Scene(answer(400, {"Error": "Bad key secret-key"})))

    assert isinstance(done.answer, Refused)
    assert done.answer.message == "Bad key ***"
    assert done.response is not None
    assert b"secret-key" not in done.response.body


@pytest.mark.asyncio
async def test_the_first_reason_to_stop_stands() -> None:
    told: list[Stop] = []
    stopper = Stopper(told.append)
    stopper.stop(Stop("unauthorized", "a"))
    stopper.stop(Stop("halt", "b"))

    assert stopper.reason == Stop("unauthorized", "a")
    assert told == [Stop("unauthorized", "a")]
