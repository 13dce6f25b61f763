"""The programs of samples/ do what they say, against a sandbox."""

import asyncio
import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from d3async.sandbox import serve
from d3async.sandbox.state import SEED, read_links, sample

SAMPLES = Path(__file__).parents[2] / "samples"


def env(url: Any, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("D3_")}
    return {**kept, **(url.env if url else {}), "D3_CONFIG": os.devnull, "D3_RATE": "2000", **more}


async def program(url: Any, *words: str | Path, **more: str) -> tuple[int, str]:
    def run() -> subprocess.CompletedProcess[str]:
        words_ = [sys.executable, *map(str, words)]
        return subprocess.run(words_, env=env(url, **more), capture_output=True, text=True, check=False, timeout=60)

    done = await asyncio.to_thread(run)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.mark.asyncio
async def test_library_use_runs_without_any_settings() -> None:
    code, said = await program(None, SAMPLES / "library_use.py")

    assert code == 0
    assert "created: Call the user" in said
    assert "removed: ['20210127-197'], refused: ['20990101-1']" in said
    assert "11 jobs: {'ok': 11}" in said


@pytest.mark.asyncio
async def test_unlink_nightly_removes_links_once_a_night(tmp_path: Path) -> None:
    async with serve(rate=0, links=read_links(sample(SEED))) as url:
        words = [SAMPLES / "unlink_nightly.py", SAMPLES / "unlink.csv", tmp_path / "runs"]
        _, first = await program(url, *words)
        removed, requests = url.ledger()["counts"]["links_removed"], len(url.ledger()["requests"])
        _, again = await program(url, *words)

        assert removed > 200
        assert "'ok':" in first
        assert url.ledger()["counts"]["links_removed"] == removed
        assert len(url.ledger()["requests"]) <= requests + 20, "only what was refused is asked again"
        assert "not_linked" in again


@pytest.mark.asyncio
async def test_unlink_nightly_ends_with_its_window_and_goes_on_when_typed_again(tmp_path: Path) -> None:
    async with serve(rate=0, latency=0.4, links=[(f"s-{n}", "a") for n in range(200)]) as url:
        file = tmp_path / "unlink.csv"
        file.write_text("source,linked\n" + "".join(f"s-{n},a\n" for n in range(200)))
        words = [SAMPLES / "unlink_nightly.py", file, tmp_path / "runs"]
        code, said = await program(url, *words, "--window", "0.8")
        assert (code, "the window is over" in said) == (1, True)
        assert 0 < url.ledger()["counts"]["links_removed"] < 200
        url.backend.latency = None
        code, said = await program(url, *words)

        assert code == 0
        assert url.ledger()["counts"]["links_removed"] == url.ledger()["counts"]["requests"] == 200


@pytest.mark.asyncio
async def test_unlink_nightly_says_in_a_line_what_is_missing(tmp_path: Path) -> None:
    code, said = await program(None, SAMPLES / "unlink_nightly.py", tmp_path / "x.csv", tmp_path)

    assert code == 2
    assert "D3_BASE_URL" in said


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SAMPLES / f"{name}.py")
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    assert spec.loader is not None
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.asyncio
async def test_fastapi_app_streams_the_outcome_of_each_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("python_multipart")
    httpx = pytest.importorskip("httpx")
    app = loaded("fastapi_app").app
    rows = SAMPLES.joinpath("tasks.csv").read_bytes()
    async with serve(rate=0) as url:
        for name, value in {**env(url), "RUNS": str(tmp_path)}.items():
            monkeypatch.setenv(name, value)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as web,
        ):
            first = await web.post("/tasks", files={"file": ("tasks.csv", rows)})
            created = url.ledger()["counts"]["tasks"]
            again = await web.post("/tasks", files={"file": ("tasks.csv", rows)})
            lines = [json.loads(line) for line in first.text.splitlines()]
            numbers = (await web.get("/metrics")).text
            no_file = await web.post("/tasks", files={"file": ("tasks.csv", b"what,is,this\n1,2,3\n")})

    *outcomes, last = lines
    assert sorted(line["row"] for line in outcomes) == list(range(1, len(outcomes) + 1))
    assert last["counts"]["ok"] == created > 100
    assert json.loads(again.text.splitlines()[-1])["counts"]["ok"] == created
    assert url.ledger()["counts"]["tasks_repeated"] == 0
    assert f'd3_outcomes_total{{command="CreateTask",outcome="ok"}} {created}' in numbers
    assert no_file.status_code == 400
    assert "header" in no_file.json()["detail"]


@pytest.mark.asyncio
async def test_many_sites_of_four_servers_one_down_and_one_with_a_wrong_key_the_other_two_finish(
    tmp_path: Path,
) -> None:
    """Row by row in one results file, and both at their own full rate at the same time."""
    rows = [f"2022-{n},n,d,admin user,2027-01-01 10:00:00,{'abcd'[n % 4]}\n" for n in range(240)]
    (tmp_path / "tasks.csv").write_text("incident,name,description,assignee,due,profile\n" + "".join(rows))
    async with serve(rate=40) as one, serve(rate=40) as other, serve(rate=40) as wrong:
        places = {"a": one, "b": "http://127.0.0.1:9/ce_site/VSOC", "c": wrong, "d": other}
        profiles = "".join(
            f'[profiles.{name}]\nbase_url = "{place}"\nusername = "u"\nsite = "s"\nrate = 40\nmax_attempts = 1\n'
            f'api_key_env = "{"NO" if name == "c" else "GOOD"}_KEY"\n'
            for name, place in places.items()
        )
        (tmp_path / "config.toml").write_text(profiles)
        keys = {"GOOD_KEY": one.keys["CreateTask"], "NO_KEY": "wrong", "D3_CONFIG": str(tmp_path / "config.toml")}
        words = [SAMPLES / "many_sites.py", tmp_path / "tasks.csv", tmp_path / "runs"]
        code, said = await program(None, *words, **keys)
        ledgers = [site.ledger() for site in (one, other)]

    assert code == 1
    assert "a: 60 of 60 ok\n" in said
    assert "d: 60 of 60 ok\n" in said
    assert "b: 0 of 60 ok; D3 cannot be reached" in said
    assert "c: 0 of 60 ok; " in said
    with (tmp_path / "runs" / "results.csv").open(encoding="utf-8-sig", newline="") as file:
        found = [(row["_row"], row["profile"], row["_outcome"]) for row in csv.DictReader(file)]
    assert found == [(str(n + 1), "abcd"[n % 4], ("ok", "unsent", "unsent", "ok")[n % 4]) for n in range(240)]
    for ledger in ledgers:
        assert ledger["counts"]["by_status"] == {"200": 60}
        assert 30 <= ledger["worst_second"] <= 40
