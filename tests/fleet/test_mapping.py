"""Files of tenants are read by the mapping that each tenant's profile keeps."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psycopg
import pytest

from d3async.journal.postgres.chunk_owners import create_job_rows_of_run
from tests.fleet.ground import Fleet, Ran, fleet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.database import Postgres


TASKS = """\
incident,name,description,assignee,due
20270101-1,Call,Look,ann,2099-01-01 12:00:00
20270101-2,Write,Look,ann,2099-01-02 12:00:00
"""


def test_each_file_is_read_by_the_mapping_of_its_tenant(
    tmp_path: Path, postgres: Postgres, typed: Callable[..., Ran]
) -> None:
    urls = dict.fromkeys(("a", "b"), "http://127.0.0.1:9/x")
    with fleet(tmp_path / "fleet", postgres.database(), urls, typed=typed) as found:
        with (found.folder / "config.toml").open("a") as config:
            config.write('[profiles.a.files]\nmap = ["Wer=assignee"]\nset = ["Site=Rome"]\n')
        mapped, plain = found.file("a", 2), found.file("b", 1)
        mapped.write_text(mapped.read_text().replace("assignee", "Wer", 1))

        told = found.run("submit", mapped, plain, "--processes", 1)

        sites = found.ask("select site, count(*) from d3async_row group by 1 order by 1")

    assert told.code == 0, told.err
    assert sites == [("Operations", 1), ("Rome", 2)]
    assert '  mapping of profile a: Wer = assignee; Site is "Rome" where empty\n' in told.err
    assert "mapping of profile b" not in told.err


@pytest.fixture
def mapped(tmp_path: Path, postgres: Postgres, typed: Callable[..., Ran]) -> Iterator[Fleet]:
    """A tenant whose profile keeps a mapping, and its run of two rows: the first was sent."""
    with fleet(tmp_path / "fleet", postgres.database(), {"a": "http://127.0.0.1:9/x"}, typed=typed) as found:
        keep(found, 'set = ["required=Yes"]')
        file = found.folder / "a.csv"
        file.write_text(TASKS)
        assert found.run("submit", file).code == 0
        with psycopg.connect(found.database) as connection:
            create_job_rows_of_run(connection, 1)
        found.ask("update d3async_job set state = 'ok', todo = false where id = 1 returning id")
        yield found


def keep(found: Fleet, text: str) -> None:
    found.write_config(found.tenants)
    with (found.folder / "config.toml").open("a") as config:
        config.write(f"[profiles.a.files]\n{text}\n")


@pytest.mark.parametrize(
    ("state", "then", "typed_too", "to_send", "sent"),
    [
        ("ok", 'set = ["required=Yes", "type=Other"]', (), 1, "Default"),
        ("unknown", 'set = ["required=Yes", "type=Other"]', (), 1, "Default"),
        ("failed", 'set = ["required=Yes", "type=Other"]', (), 2, "Other"),
        ("ok", 'map = ["Elsewhere=name"]', (), 1, "Default"),
        ("ok", 'set = ["required=Yes"]', ("--set", "type=Other"), 1, "Default"),
        ("ok", 'set = ["required=Yes", "type=Other"]', ("--where", "name=nobody"), 0, "Default"),
    ],
    ids=["done", "unknown", "failed", "taken away", "typed", "left out"],
)
def test_rows_with_the_text_they_were_sent_with_are_the_same_rows_whatever_the_profile_says_now(
    mapped: Fleet, state: str, then: str, typed_too: tuple[str, ...], to_send: int, sent: str
) -> None:
    mapped.ask("update d3async_job set state = %s, attempts = 1 where id = 1 returning id", state)
    keep(mapped, then)

    again = mapped.run("submit", "a.csv", *typed_too)

    assert again.code == 0, again.err
    assert f"{to_send} row{'s' * (to_send != 1)} to send" in again.err
    # the other row was never sent: read otherwise it is another row
    assert f"(1 new, 1 known from before{'' if state == 'failed' else ', 1 done as read then'})" in again.err
    [(params,)] = mapped.ask("select params from d3async_row where id = 1")
    assert json.loads(params)["Task Type"] == sent
