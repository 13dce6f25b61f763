"""From a file to sent rows, over links and forms alone: what a browser without a script does."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING

import pytest
from aiohttp import FormData

from d3async.web.uploads import Uploads
from tests.end_to_end.ground import running
from tests.web.forms import Forms
from tests.web.test_start import form

if TYPE_CHECKING:
    from collections.abc import Iterator

    from d3async.web.uploads import Upload
    from tests.end_to_end.ground import Site
    from tests.web.conftest import Page

GERMAN = "Vorfall;Aufgabe;Beschreibung;Bearbeiter;Fällig am;Ort\r\n"


def tasks(rows: int, due: str = "24.12.2099") -> str:
    each = "20220125-{0};Anrufen {0};Bitte <b>anrufen</b>;admin user;{1};Ulm\r\n"
    return GERMAN + "".join(each.format(number, due) for number in range(1, rows + 1))


@pytest.fixture
def d3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with running(rate=None) as site:
        for name, value in {**site.env, "D3_RATE": "2000"}.items():
            monkeypatch.setenv(name, value)
        yield site


async def brought(page: Page, text: str, name: str = "Aufgaben.csv") -> Upload:
    assert (await page.post("bring", form(name, text.encode())))[0] == 303
    return Uploads(page.state / "files").all()[0]


async def submit(page: Page, address: str, action: str = "", **changes: object) -> tuple[int, str]:
    """Send the form of the page at *address* with *changes*; the answer."""
    status, text = await page.get(address)
    assert status == 200, text
    data = FormData()
    for name, values in {**Forms(text).of(action), **changes}.items():
        for value in values if isinstance(values, list) else [values]:
            data.add_field(name, str(value))
    return await page.post(f"{address.rpartition('/')[0]}/{action}" if action else address, data)


async def over(page: Page, upload: Upload) -> str:
    """The run's page once the run is over, by its stream of events."""
    async with page.client.get(f"{page.base}file/{upload.id}/live") as answer:
        events = [line.decode() async for line in answer.content]
    assert events[-3:][0] == "event: end\n"
    assert json.loads(events[0].removeprefix("data: "))["texts"]["done"]
    return (await page.get(f"file/{upload.id}/run"))[1]


def heading(text: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", "", re.findall(r"<h1>(.*?)</h1>", text, re.DOTALL)[0]).split())


@pytest.mark.asyncio
async def test_a_german_file_is_guessed_checked_piloted_and_sent_once(page: Page, d3: Site) -> None:
    upload = await brought(page, tasks(20))
    at = f"file/{upload.id}"
    status, text = await page.get(f"{at}/columns")
    assert status == 200
    assert text.count("guessed: is it right?") == 5
    assert "24.12.2099 is 24 December 2099" in text
    status, location = await submit(page, f"{at}/columns", date_format="dd.MM.yyyy")
    assert (status, location) == (303, f"{page.session.path}{at}/check")
    assert heading((await page.get(f"{at}/check"))[1]) == "All 20 rows can be sent"
    assert (await submit(page, f"{at}/check"))[0] == 303
    assert heading((await page.get(f"{at}/plan"))[1]) == "Create 20 tasks?"
    assert d3.ledger()["tasks"] == []

    assert (await submit(page, f"{at}/plan", "plan", limit="5"))[0] == 303
    assert heading((await page.get(f"{at}/plan"))[1]) == "Create 5 tasks?"
    assert (await submit(page, f"{at}/plan", "run"))[0] == 303
    assert heading(await over(page, upload)) == "15 rows are left to send"

    assert (await submit(page, f"{at}/plan", "plan", limit=""))[0] == 303
    assert heading((await page.get(f"{at}/plan"))[1]) == "Create 15 tasks?"
    assert (await submit(page, f"{at}/plan", "run"))[0] == 303
    assert heading(await over(page, upload)) == "Finished"
    assert len(d3.ledger()["tasks"]) == 20
    assert heading((await page.get(f"{at}/plan"))[1]) == "Nothing is left to send"
    status, text = await page.get(f"{at}/results")
    assert heading(text) == "Aufgaben.csv: 20 ok"
    assert (await page.get(f"{at}/download/results.csv"))[1].count("\n") >= 20
    assert "Call the user" not in text
    assert heading((await page.get(f"{at}/row/3"))[1]) == "Row 3: ok"


@pytest.mark.asyncio
async def test_each_problem_is_at_its_cell_and_the_good_rows_can_be_sent(page: Page, d3: Site) -> None:
    upload = await brought(page, tasks(2) + "20220125-9;;<script>alert(1)</script>;admin user;24.12.2099;Ulm\r\n")
    at = f"file/{upload.id}"
    await submit(page, f"{at}/columns", date_format="dd.MM.yyyy")
    _, text = await page.get(f"{at}/check")
    assert heading(text) == "1 of 3 rows cannot be sent"
    assert "<mark>(empty)</mark>" in text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    assert (await page.get(f"{at}/errors.csv"))[1].count("\n") == 2
    assert "0 rows" in (await page.get(f"{at}/check?search=nothing"))[1]
    assert (await submit(page, f"{at}/check", skip_invalid="1"))[0] == 303
    assert heading((await page.get(f"{at}/plan"))[1]) == "Create 2 tasks?"


@pytest.mark.asyncio
async def test_a_stale_tab_confirms_nothing_and_more_than_500_rows_are_typed(page: Page, d3: Site) -> None:
    upload = await brought(page, tasks(501))
    at = f"file/{upload.id}"
    await submit(page, f"{at}/columns", date_format="dd.MM.yyyy")
    await submit(page, f"{at}/check")
    _, stale = await page.get(f"{at}/plan")
    digest = Forms(stale).of("run")["digest"][0]
    status, text = await page.post(f"{at}/run", {"digest": digest, "typed": "500"})
    assert status == 409
    assert "Type 501 to confirm" in text
    await submit(page, f"{at}/plan", "plan", limit="2")
    await page.get(f"{at}/plan")
    status, text = await page.post(f"{at}/run", {"digest": digest, "typed": "501"})
    assert status == 409
    assert "not the newest one" in text
    assert d3.ledger()["tasks"] == []


@pytest.mark.asyncio
async def test_a_file_changed_since_its_plan_is_not_sent(page: Page, d3: Site) -> None:
    upload = await brought(page, tasks(3))
    at = f"file/{upload.id}"
    await submit(page, f"{at}/columns", date_format="dd.MM.yyyy")
    _, text = await page.get(f"{at}/plan")
    upload.file.write_text(tasks(3, due="25.12.2099"), "utf-8")
    await page.post(f"{at}/run", {"digest": Forms(text).of("run")["digest"][0]})
    text = await over(page, upload)
    assert heading(text) == "Aufgaben.csv was not sent", text
    assert "changed since the plan was made" in text
    assert d3.ledger()["tasks"] == []


@pytest.mark.asyncio
async def test_a_run_is_stopped_and_gone_on_with_and_unknown_rows_are_settled(
    page: Page, d3: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D3_RATE", "20")
    upload = await brought(page, tasks(60))
    at = f"file/{upload.id}"
    await submit(page, f"{at}/columns", date_format="dd.MM.yyyy")
    await submit(page, f"{at}/plan", "run")
    while not d3.ledger()["tasks"]:  # noqa: ASYNC110 - the ledger is another thread's
        await asyncio.sleep(0.02)
    assert (await page.post(f"{at}/stop"))[0] == 303
    text = await over(page, upload)
    sent = len(d3.ledger()["tasks"])
    assert 0 < sent < 60
    assert heading(text) == f"{60 - sent} rows are left to send"
    assert (await page.post(f"{at}/stop"))[0] == 409
    assert heading((await page.get(f"{at}/plan"))[1]) == f"Create {60 - sent} tasks?"


@pytest.mark.asyncio
async def test_unknown_rows_are_settled_with_name_and_time_and_taken_back(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(rate=None, faults={"drop-after": 1.0}) as site:
        for name, value in site.env.items():
            monkeypatch.setenv(name, value)
        upload = await brought(page, tasks(2))
        at = f"file/{upload.id}"
        await submit(page, f"{at}/columns", date_format="dd.MM.yyyy")
        await submit(page, f"{at}/plan", "run")
        await over(page, upload)
    _, text = await page.get(f"{at}/results")
    assert heading(text) == "Aufgaben.csv: 2 unknown"
    assert (await page.post(f"{at}/settle", {"verdict": "ok"}))[0] == 400
    assert (await page.post(f"{at}/settle", {"verdict": "ok", "row": "1"}))[0] == 303
    assert heading((await page.get(f"{at}/results"))[1]) == "Aufgaben.csv: 1 ok, 1 unknown"
    assert "Settled by hand as ok" in (await page.get(f"{at}/row/1"))[1]
    status, text = await page.post(f"{at}/settle", {"verdict": "failed", "every": "1"})
    assert status == 200
    assert heading(text) == "Settle 1 unknown rows: is not there?"
    assert (await page.post(f"{at}/settle", {"verdict": "failed", "every": "1", "sure": "1"}))[0] == 303
    assert heading((await page.get(f"{at}/results"))[1]) == "Aufgaben.csv: 1 ok, 1 failed"
    assert (await page.post(f"{at}/settle", {"verdict": "undo", "every": "1", "sure": "1"}))[0] == 303
    assert heading((await page.get(f"{at}/results?outcome=unknown"))[1]) == "Aufgaben.csv: 2 unknown"


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["journal.sqlite", "..%2Ftasks.csv", "other.csv"])
async def test_only_files_of_a_list_are_downloaded(page: Page, d3: Site, name: str) -> None:
    upload = await brought(page, tasks(1))
    assert (await page.get(f"file/{upload.id}/download/{name}"))[0] == 404
