"""The first page: a file is brought, kept for this user alone, listed and removed."""

from __future__ import annotations

import stat
from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from aiohttp import FormData

from d3async.web.uploads import Uploads

if TYPE_CHECKING:
    from pathlib import Path

    from tests.web.conftest import Page

DAY = 86400.0


def form(name: str, content: bytes) -> FormData:
    data = FormData(quote_fields=False)
    data.add_field("file", BytesIO(content), filename=name)
    return data


@pytest.mark.asyncio
async def test_a_file_is_kept_under_our_name_for_its_user_alone(page: Page) -> None:
    hostile = "<img src=x onerror=alert(1)>.csv"
    status, location = await page.post("bring", form(hostile, b"source,linked\n1,2\n"))
    assert status == 303
    [upload] = Uploads(page.state / "files").all()
    assert location == f"{page.session.path}file/{upload.id}/columns"
    assert upload.file.read_bytes() == b"source,linked\n1,2\n"
    assert upload.file.name == "tasks.csv"
    assert stat.S_IMODE(upload.folder.stat().st_mode) == 0o700
    _, text = await page.get()
    assert "<img" not in text
    assert "&lt;img" in text


@pytest.mark.asyncio
async def test_a_pasted_table_is_a_file(page: Page) -> None:
    data = FormData()
    data.add_field("file", b"", filename="")
    data.add_field("table", "source\tlinked\r\n1\t2\r\n")
    assert (await page.post("bring", data))[0] == 303
    [upload] = Uploads(page.state / "files").all()
    assert upload.file.read_text().splitlines() == ["source\tlinked", "1\t2"]


@pytest.mark.asyncio
@pytest.mark.parametrize(("name", "size", "status"), [("a.exe", 1, 400), ("a", 1, 400), ("a.csv", (1 << 20) + 1, 413)])
async def test_what_is_no_job_file_or_too_large_is_not_kept(page: Page, name: str, size: int, status: int) -> None:
    assert (await page.post("bring", form(name, b"x" * size)))[0] == status
    assert list((page.state / "files").iterdir()) == []


@pytest.mark.asyncio
async def test_no_file_is_said(page: Page) -> None:
    status, text = await page.post("bring", form("", b""))
    assert status == 400
    assert "No file was given" in text


@pytest.mark.asyncio
async def test_missing_settings_are_named_and_a_key_never_shown(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    _, text = await page.get()
    assert "Settings are incomplete" in text
    assert "D3_BASE_URL" in text
    monkeypatch.setenv("D3_BASE_URL", "https://d3.example.com/ce_site/VSOC")
    monkeypatch.setenv("D3_USERNAME", "svc-runner")
    monkeypatch.setenv("D3_SITE", "Security Operations")
    monkeypatch.setenv("D3_API_KEY", "very-secret")
    _, text = await page.get()
    assert "https://d3.example.com/ce_site/VSOC" in text
    assert "svc-runner" in text
    assert "very-secret" not in text


@pytest.mark.asyncio
async def test_a_file_is_removed_once_its_user_agrees(page: Page) -> None:
    await page.post("bring", form("a.csv", b"source,linked\n1,2\n"))
    [upload] = Uploads(page.state / "files").all()
    status, text = await page.get(f"file/{upload.id}/remove")
    assert status == 200
    assert "Remove a.csv?" in text
    assert upload.folder.is_dir()
    assert (await page.post(f"file/{upload.id}/remove"))[0] == 303
    assert not upload.folder.exists()
    assert (await page.get(f"file/{upload.id}/remove"))[0] == 404


def test_files_that_were_never_sent_are_removed_after_30_days_and_run_folders_are_not(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    sent, unsent, new = (uploads.new("a.csv", "", now=at) for at in (0.0, 0.0, DAY))
    for upload in (sent, unsent, new):
        uploads.save(upload)
    sent.run_folder.mkdir()
    uploads.remove_old(now=30 * DAY + 1)
    assert {upload.id for upload in uploads.all()} == {sent.id, new.id}


@pytest.mark.parametrize("name", ["", "..", "../..", "0123456789abcde", "0123456789ABCDEF", "0123456789abcdef/"])
def test_an_upload_is_named_by_its_number_alone(tmp_path: Path, name: str) -> None:
    assert Uploads(tmp_path).get(name) is None
