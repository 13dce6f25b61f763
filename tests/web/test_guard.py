"""What other pages, names, ports and browsers get: nothing."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest
from aiohttp import FormData

from d3async.web.guard import COOKIE, Asked, refusal
from d3async.web.server import LastUse
from d3async.web.session import OneTimeToken, Session, open_session, opening_file

if TYPE_CHECKING:
    from pathlib import Path

    from tests.web.conftest import Page

SESSION = Session("secret", "/0123456789abcdef/")
OURS = {
    "method": "GET", "path": "/0123456789abcdef/", "host": "127.0.0.1:8080", "origin": "", "fetch_site": "same-origin",
    "cookie": "secret",
}  # fmt: skip


@pytest.mark.parametrize(
    ("differs", "refused"),
    [
        ({}, False),
        ({"host": "localhost:8080"}, False),
        ({"host": "LOCALHOST:8080"}, False),
        ({"host": "evil.test:8080"}, True),
        ({"host": "127.0.0.1:8081"}, True),
        ({"host": "127.0.0.1"}, True),
        ({"host": "127.0.0.1.evil.test:8080"}, True),
        ({"host": ""}, True),
        ({"fetch_site": "none"}, False),
        ({"fetch_site": ""}, False),
        ({"fetch_site": "same-site"}, True),
        ({"fetch_site": "cross-site"}, True),
        ({"cookie": ""}, True),
        ({"cookie": "secreT"}, True),
        ({"cookie": "sécret"}, True),
        ({"path": "/"}, True),
        ({"path": "/0123456789abcdee/"}, True),
        ({"method": "POST", "origin": "http://127.0.0.1:8080"}, False),
        ({"method": "POST", "origin": "http://localhost:8080", "host": "localhost:8080"}, False),
        ({"method": "POST", "origin": ""}, True),
        ({"method": "POST", "origin": "null"}, True),
        ({"method": "POST", "origin": "http://127.0.0.1:8081"}, True),
        ({"method": "POST", "origin": "http://localhost:8080"}, True),
        ({"method": "POST", "origin": "https://127.0.0.1:8080"}, True),
        ({"method": "DELETE", "origin": ""}, True),
        ({"path": "/0123456789abcdef/enter/token", "cookie": "", "fetch_site": "cross-site"}, False),
        ({"path": "/0123456789abcdef/enter/token", "cookie": "", "host": "evil.test:8080"}, True),
        ({"path": "/0123456789abcdef/enter/token", "method": "POST", "origin": "http://evil.test"}, True),
    ],
)
def test_a_request_is_answered_when_our_page_in_our_browser_sent_it(differs: dict[str, str], refused: bool) -> None:
    assert bool(refusal(Asked(**{**OURS, **differs}), SESSION, 8080)) is refused


@pytest.mark.asyncio
async def test_the_token_opens_the_page_once(served: Page) -> None:
    assert (await served.get())[0] == 403
    await served.enter()
    assert (await served.get())[0] == 200
    status, text = await served.get(f"enter/{served.token.text}")
    assert status == 403
    assert "d3async web" in text


@pytest.mark.asyncio
async def test_a_wrong_token_opens_nothing_and_leaves_the_right_one(served: Page) -> None:
    assert (await served.get("enter/wrong"))[0] == 403
    await served.enter()


def test_a_token_has_256_bits() -> None:
    assert len(OneTimeToken().text) >= 43
    assert OneTimeToken().text != OneTimeToken().text


@pytest.mark.asyncio
async def test_the_cookie_is_for_this_path_and_no_script(served: Page) -> None:
    async with served.client.get(f"{served.base}enter/{served.token.text}") as answer:
        cookie = answer.cookies[COOKIE]
        assert answer.status == 200
        assert "Location" not in answer.headers
    assert cookie["path"] == served.session.path
    assert (cookie["httponly"], cookie["samesite"]) == (True, "Strict")
    assert len(served.session.path) >= 18


@pytest.mark.asyncio
@pytest.mark.parametrize("address", ["", "help", "nothing", "static/page.css", "file/0123456789abcdef/columns"])
async def test_every_answer_has_the_headers_that_shut_others_out(page: Page, address: str) -> None:
    async with page.client.get(page.base + address) as answer:
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'; style-src")
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert "require-trusted-types-for 'script'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.asyncio
@pytest.mark.parametrize("origin", ["null", "http://evil.test", "http://127.0.0.1:1"])
async def test_a_form_of_another_page_is_refused_although_the_browser_has_the_cookie(page: Page, origin: str) -> None:
    status, text = await page.post("bring", FormData({"table": "a,b"}), Origin=origin)
    assert status == 403
    assert text.startswith("Wrong origin")


@pytest.mark.asyncio
async def test_a_foreign_name_that_leads_here_is_refused(page: Page) -> None:
    assert (await page.get(Host="evil.test"))[0] == 403
    assert (await page.get(Host=f"evil.test:{page.port}"))[0] == 403


@pytest.mark.asyncio
async def test_a_page_that_is_framed_or_fetched_from_elsewhere_is_refused(page: Page) -> None:
    status, _ = await page.get(**{"Sec-Fetch-Site": "cross-site"})
    assert status == 403


@pytest.mark.asyncio
async def test_files_of_the_package_are_given_by_a_list_of_names(page: Page) -> None:
    assert (await page.get("static/page.js"))[0] == 200
    assert (await page.get("static/..%2Fserver.py"))[0] == 404


def test_the_session_outlives_the_server_and_a_new_one_ends_it(tmp_path: Path) -> None:
    first = open_session(tmp_path / "web")
    assert open_session(tmp_path / "web") == first
    assert open_session(tmp_path / "web", new=True) != first
    assert stat.S_IMODE((tmp_path / "web").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "web" / "session.json").stat().st_mode) == 0o600


def test_a_torn_session_file_makes_a_new_session(tmp_path: Path) -> None:
    (tmp_path / "session.json").write_text("{")
    assert open_session(tmp_path) == open_session(tmp_path)


def test_the_browser_is_led_by_a_file_that_only_its_user_can_read(tmp_path: Path) -> None:
    path = opening_file(tmp_path, "http://127.0.0.1:1/a/enter/b")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert 'content="0;url=http://127.0.0.1:1/a/enter/b"' in path.read_text()


def test_a_server_that_is_not_used_ends() -> None:
    now = [0.0]
    used = LastUse(lambda: now[0])
    now[0] = 99.0
    used.note()
    now[0] = 199.0
    assert not used.idle(100.0)
    now[0] = 199.1
    assert used.idle(100.0)
