"""Links read back from a sandbox: in batches, by pages, with what can't be told left alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from d3async.client import D3Client
from d3async.config.settings import Settings
from d3async.d3.linked_incidents import GET_INCIDENTS, GET_LINKED
from d3async.engine.read_back import LinkCounts, against, reconcile_links, verify
from d3async.errors import NotSentError, RefusedError, UnauthorizedError, UnknownOutcomeError
from d3async.journal.sqlite.staging import Stage
from d3async.sandbox.limits_and_faults import make_limit
from tests.engine.ground import ground, link

A, B, C = "20210127-7", "20210127-8", "20210127-9"
BOTH = (GET_INCIDENTS, GET_LINKED)


def lose(word: str) -> Any:
    """Removals are lost by *word*; reading back is not."""
    return lambda ask: word if ask.command == "RemoveLinkedIncidents" else None


@pytest.mark.asyncio
async def test_hundreds_of_sources_are_read_fifty_at_a_time(tmp_path: Path) -> None:
    pairs = [(f"202310{n % 28 + 1:02}-{n}", f"20210127-{n}") for n in range(120)]
    async with ground(tmp_path, links=pairs, faults=lose("drop-after")) as site:
        await site.run(link(n, *pair) for n, pair in enumerate(pairs, 1))
        assert {state for state, _ in site.rows()} == {"unknown"}

        counts = await reconcile_links(site.client, site.unknown(), [GET_INCIDENTS])

        assert counts == LinkCounts(gone=120, linked=0, cannot_tell=0)
        assert site.rows() == [("ok", "removed")] * 120
        assert site.asked(GET_INCIDENTS) == 3


@pytest.mark.asyncio
async def test_rows_of_one_source_are_settled_item_by_item(tmp_path: Path) -> None:
    async with ground(tmp_path, links=[("1-1", A), ("1-1", B)], faults=lose("drop-before"), symmetric=False) as site:
        await site.run([link(1, "1-1", A, C), link(2, "1-1", C), link(3, "1-1", B, A)])
        await reconcile_links(site.client, site.unknown(), BOTH)

        assert site.rows() == [("partial", "still_linked"), ("ok", "removed"), ("failed", "still_linked")]
        assert site.items() == [
            (A, "failed", "still_linked"),
            (C, "ok", "removed"),
            (C, "ok", "removed"),
            (B, "failed", "still_linked"),
            (A, "failed", "still_linked"),
        ]


@pytest.mark.asyncio
async def test_numbers_without_a_day_are_found_too(tmp_path: Path) -> None:
    sources = ["TEST-INCIDENT-73", "20231025-130", "090924-13297"]
    async with ground(tmp_path, links=[(source, A) for source in sources], faults=lose("drop-after")) as site:
        await site.run(link(n, source, A) for n, source in enumerate(sources, 1))
        await reconcile_links(site.client, site.unknown(), [GET_INCIDENTS])

        assert site.rows() == [("ok", "removed")] * 3


@pytest.mark.asyncio
async def test_an_incident_d3_does_not_show_proves_nothing(tmp_path: Path) -> None:
    async with ground(tmp_path, faults=lose("drop-before")) as site:
        await site.run([link(1, "19000101-1", A)])
        counts = await reconcile_links(site.client, site.unknown(), BOTH)

        assert counts == LinkCounts(gone=0, linked=0, cannot_tell=1)
        assert site.rows() == [("unknown", "connection_lost")]
        assert "; looked up in D3: " in site.message(1)
        assert "does not exist" in site.message(1)


@pytest.mark.asyncio
async def test_what_one_command_cannot_tell_another_may(tmp_path: Path) -> None:
    def faults(ask: Any) -> str | None:
        return {"RemoveLinkedIncidents": "drop-after", GET_INCIDENTS: "html-200"}.get(ask.command)

    async with ground(tmp_path, links=[("20231025-1", A)], faults=faults) as site:
        await site.run([link(1, "20231025-1", A)])
        counts = await reconcile_links(site.client, site.unknown(), BOTH)

        assert counts.gone == 1


class Scripted:
    """Answers what it was told to, and notes what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[Mapping[str, Any]] = []

    async def call(self, name: str, params: Mapping[str, Any], **_: Any) -> Any:
        self.asked.append(params)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def page(*rows: tuple[str, list[str]], total: int) -> dict[str, Any]:
    shown = [{"IR Number": number, "Linked Incidents": links} for number, links in rows]
    return {"error": "", "rawData": {"incidents": shown}, "outputData": {"TotalPages": total}}


@pytest.mark.asyncio
async def test_pages_are_turned_until_all_that_was_asked_for_is_shown(tmp_path: Path) -> None:
    """A server that takes no notice of the filter shows the incident somewhere among all."""
    asker = Scripted(page(("1-5", []), total=9), page(("1-6", []), total=9), page(("1-1", [B]), total=9))
    async with ground(tmp_path, faults=lose("drop-before")) as site:
        await site.run([link(1, "1-1", A)])
        await reconcile_links(asker, site.unknown(), [GET_INCIDENTS])

        assert site.rows() == [("ok", "removed")]
        assert [asked["Page Index"] for asked in asker.asked] == [0, 1, 2]


@pytest.mark.asyncio
async def test_an_incident_not_created_on_the_day_in_its_number_is_looked_for_everywhere(tmp_path: Path) -> None:
    asker = Scripted(page(("20231025-1", [B]), total=1), page(("20231025-2", [A]), total=1))
    async with ground(tmp_path, faults=lose("drop-before")) as site:
        await site.run([link(1, "20231025-1", A), link(2, "20231025-2", A)])
        await reconcile_links(asker, site.unknown(), [GET_INCIDENTS])

        assert site.rows() == [("ok", "removed"), ("failed", "still_linked")]
        assert [(len(asked["Filter"]), asked["Start Time"]) for asked in asker.asked] == [
            (2, "2023-10-22 00:00:00"),
            (1, "2000-01-01 00:00:00"),
        ]


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [RefusedError("No."), UnknownOutcomeError("Who knows.")])
async def test_a_look_up_that_fails_leaves_its_rows_unknown_and_says_why(tmp_path: Path, error: Exception) -> None:
    async with ground(tmp_path, faults=lose("drop-before")) as site:
        await site.run([link(1, "1-1", A)])
        counts = await reconcile_links(Scripted(error), site.unknown(), [GET_INCIDENTS])

        assert counts.cannot_tell == 1
        assert site.message(1).endswith(f"looked up in D3: D3 says: {error}")


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [UnauthorizedError("No."), NotSentError("Gone.")])
async def test_what_would_meet_every_look_up_ends_it_and_what_was_settled_stands(
    tmp_path: Path, error: Exception
) -> None:
    async with ground(tmp_path, faults=lose("drop-before")) as site:
        await site.run([link(1, "1-1", A)])
        with pytest.raises(type(error)):
            await reconcile_links(Scripted(error), site.unknown(), [GET_INCIDENTS])

        assert site.rows() == [("unknown", "connection_lost")]


@pytest.mark.asyncio
async def test_verify_finds_what_d3_says_it_removed_and_did_not(tmp_path: Path) -> None:
    """A server whose answer hides that the link stays: only reading it back tells."""
    async with ground(tmp_path, links=[("1-1", A), ("2-2", A), ("2-2", B)]) as site:
        await site.run([link(1, "1-1", A), link(2, "2-2", A, B), link(3, "1-1", C)])
        assert site.rows() == [("ok", ""), ("ok", ""), ("failed", "not_linked")]
        site.d3.state.links.add("2-2", B)

        counts = await verify(site.client, site.session(), [GET_INCIDENTS])

        assert counts == LinkCounts(gone=2, linked=1, cannot_tell=0)
        assert site.rows() == [("ok", ""), ("partial", "still_linked"), ("failed", "not_linked")]


@pytest.mark.asyncio
async def test_what_verify_found_is_sent_again_and_gone_is_then_gone_by_us(tmp_path: Path) -> None:
    jobs = [link(1, "1-1", A)]
    async with ground(tmp_path, links=[("1-1", A)]) as site:
        await site.run(jobs)
        site.d3.state.links.add("1-1", A)
        await verify(site.client, site.session(), [GET_INCIDENTS])
        site.d3.state.links.remove("1-1", A)
        site.again()
        await site.run(jobs)

        assert site.rows() == [("ok", "")]
        assert site.items() == [(A, "ok", "removed_before")]


@pytest.mark.asyncio
async def test_verify_looks_at_this_run_alone(tmp_path: Path) -> None:
    async with ground(tmp_path, links=[("1-1", A), ("2-2", A)]) as site:
        await site.run([link(1, "1-1", A)])
        site.again()
        await site.run([link(1, "1-1", A), link(2, "2-2", A)])
        counts = await verify(site.client, site.session(), [GET_INCIDENTS])

        assert counts.gone == 1


@pytest.mark.asyncio
async def test_against_tells_the_pairs_that_need_not_be_sent(tmp_path: Path) -> None:
    told: list[tuple[int | None, str, str]] = []
    async with ground(tmp_path, links=[("20231025-1", A), ("20231025-2", B)]) as site:
        stage = Stage(site.folder.db, keep=False)
        stage.add([link(1, "20231025-1", A, B), link(2, "20231025-2", B), link(3, "20231025-1", C)])
        counts = await against(
            site.client,
            site.session(),
            BOTH,
            not_linked=lambda source, pair: told.append((pair.line, source.number, pair.name)),
        )

        assert counts == LinkCounts(gone=2, linked=2, cannot_tell=0)
        assert sorted(told, key=str) == [(2, "20231025-1", B), (4, "20231025-1", C)]


@pytest.mark.asyncio
async def test_rows_that_name_another_user_or_site_are_asked_for_as_they_were_sent(tmp_path: Path) -> None:
    asker = Scripted(page(("1-1", [B]), total=1), page(("1-1", [A]), total=1))
    seen: list[tuple[Any, Any]] = []

    class Noting(Scripted):
        async def call(self, name: str, params: Mapping[str, Any], **who: Any) -> Any:
            seen.append((who["username"], who["site"]))
            return await asker.call(name, params)

    jobs = [link(1, "1-1", A), link(2, "1-1", A)._replace(username="Ann", site="Other")]
    async with ground(tmp_path, faults=lose("drop-before")) as site:
        await site.run(jobs)
        await reconcile_links(Noting(), site.unknown(), [GET_INCIDENTS])

        assert seen == [(None, "Security Operations"), ("Ann", "Other")]
        assert site.rows() == [("ok", "removed"), ("failed", "still_linked")]


@pytest.mark.asyncio
async def test_reading_back_keeps_to_the_rate(tmp_path: Path) -> None:
    """A server that counts 40 requests in any second refuses none of 60."""
    pairs = [(f"20231025-{n}", A) for n in range(60)]
    async with ground(tmp_path, links=pairs, faults=lose("drop-after")) as site:
        await site.run(link(n, *pair) for n, pair in enumerate(pairs, 1))
        site.d3.set_limit(make_limit("sliding", 40, None))
        async with D3Client(Settings.from_env(site.d3.env, rate=40)) as client:
            counts = await reconcile_links(client, site.unknown(), [GET_LINKED])

        assert counts.gone == 60
        assert all(entry["status"] != 429 for entry in site.d3.ledger()["requests"])
