"""A database that the released version filled: submitting the same files again sends nothing twice."""

from __future__ import annotations

import asyncio
import json
import unicodedata
from typing import TYPE_CHECKING, Any

import pytest

from d3async.config.database_urls import needed
from d3async.journal.postgres.submission import RunSession
from d3async.journal.reconcile import UnknownRows
from d3async.operations.load_fleet import Loader, LoadOptions, RunToSubmit
from d3async.operations.mapping import JobFileOptions
from tests.journal.postgres.test_migrations import RELEASED, asked, migrated, released

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.database import Postgres

_TODO = "select r.raw from d3async_job j join d3async_row r using (run, id) where j.todo order by run, id"
_STATES = """
select u.name, r.row, j.state from d3async_run u join d3async_row r on r.run = u.id
left join d3async_job j on j.run = r.run and j.id = r.id where j.state in ('ok', 'unknown', 'partial', 'sent')
order by 1, 2"""
FILES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, int]]] = {
    # rows: ok, failed, unknown, invalid, ok and its twin unsent, ok, in flight
    "a": ({"skip_invalid": True, "allow_duplicates": True}, {"take_over": True}, {"a": 2}),
    # rows with an id of their own, which are ok, unknown and unsent
    "keyed": ({"id_column": "id"}, {}, {"keyed": 1}),
    # rows with a mark, which are ok, unknown and unsent
    "marked": ({}, {"mark_tasks": True}, {"marked": 1}),
    # rows that name their profile: ok, unsent; unsent in a chunk nobody opened
    "routed": ({}, {}, {"routed.a": 1, "routed.b": 1}),
    # ok, partial, unknown (may be sent twice), unsent
    "links": ({}, {}, {"links": 3}),
    # two ok, four in chunks nobody opened
    "b": ({}, {}, {"b": 4}),
}
TENANT = {"b": "b", "routed": ""}


def submit(url: str, folder: Path, name: str, **more: Any) -> dict[str, int]:
    """Rows to send of each run that the file *name* is."""
    config = folder / "config.toml"
    profile = '[profiles.{}]\nbase_url = "http://127.0.0.1:9/x"\nusername = "svc"\nsite = "Operations"\n'
    config.write_text(profile.format("a") + profile.format("b"))
    job_file, how, _ = FILES[name]
    loader = Loader(
        needed(url, {}),
        LoadOptions(job_file=JobFileOptions(**{**job_file, **more}), config=config, chunk_rows=2, **how),
    )
    with loader:
        found = loader.load(RunToSubmit(folder / f"{name}.csv", TENANT.get(name, "a"), name))
        assert [one for one in found if not one.good] == []
        loader.commit()
    return {one.unit.run: one.to_send for one in found}


def as_it_was(text: str) -> str:
    return text


def composed(text: str) -> str:
    """As another program saves it: one letter where there were a letter and its dots."""
    return unicodedata.normalize("NFC", text)


def with_a_default(text: str) -> str:
    """With a column whose cells hold what is meant without it."""
    header, *rows = text.splitlines()
    return "\n".join([f"{header},required", *(f"{row},No" for row in rows), ""])


def other_separator(text: str) -> str:
    """As a spreadsheet saves it: each row's own text is another."""
    return text.replace(";", " ").replace(",", ";")


@pytest.mark.parametrize("saved", [as_it_was, composed, with_a_default, other_separator])
@pytest.mark.parametrize("name", FILES)
def test_a_file_submitted_to_a_released_database_sends_only_what_was_not_done(
    postgres: Postgres, tmp_path: Path, name: str, saved: Callable[[str], str]
) -> None:
    if name == "links" and saved is with_a_default:
        pytest.skip("links have no field with a default")
    url = released(postgres)
    asyncio.run(migrated(url))
    text = (RELEASED / f"{name}.csv").read_text(encoding="utf-8")
    (tmp_path / f"{name}.csv").write_text(saved(text), encoding="utf-8")
    done = {(run, row): state for run, row, state in asked(url, _STATES)}

    first, second = submit(url, tmp_path, name), submit(url, tmp_path, name)

    assert first == second == FILES[name][2]
    after = {(run, row): state for run, row, state in asked(url, _STATES)}
    assert after == {
        place: "unknown" if state == "sent" and name == "a" else state for place, state in done.items()
    } | ({} if name != "links" else {("links", 2): "partial"})


def test_what_was_sent_with_a_mark_is_still_looked_for_by_it(postgres: Postgres, tmp_path: Path) -> None:
    url = released(postgres)
    asyncio.run(migrated(url))
    marks = []
    for again in (False, True):
        if again:
            (tmp_path / "marked.csv").write_bytes((RELEASED / "marked.csv").read_bytes())
            submit(url, tmp_path, "marked")
        with RunSession(url, "marked") as session:
            rows = UnknownRows(session)
            [incident] = rows.task_incidents()
            [task] = rows.unknown_tasks(incident)
        assert task.description.endswith(f" [d3async {task.mark}]")
        marks.append(task.mark)
    assert marks[0] == marks[1]
    sent = [
        json.loads(params)["Task Description"]
        for (params,) in asked(url, "select params from d3async_row where run = 3")
    ]
    assert [text.count("[d3async ") for text in sent] == [1, 1, 1]
