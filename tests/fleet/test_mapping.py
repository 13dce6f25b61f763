"""Files of tenants are read by the mapping that each tenant's profile keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from d3async.journal.postgres.untouched import lay_run
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
            lay_run(connection, 1)
        found.ask("update d3async_job set state = 'ok', todo = false where id = 1 returning id")
        yield found


def keep(found: Fleet, text: str) -> None:
    found.write_config(found.tenants)
    with (found.folder / "config.toml").open("a") as config:
        config.write(f"[profiles.a.files]\n{text}\n")


def test_rows_that_are_done_are_not_sent_again_because_the_profile_says_otherwise_now(mapped: Fleet) -> None:
    keep(mapped, 'set = ["required=Yes", "type=Other"]')
    stopped = mapped.run("submit", "a.csv")
    stood = mapped.outcomes()
    other = mapped.run("submit", "a.csv", "--run", "b")
    keep(mapped, 'set = ["required=Yes"]')
    back = mapped.run("submit", "a.csv")

    assert stopped.code == 2
    assert (
        'a holds 1 row sent when the mapping of the profile was another (required is "Yes" where empty); as it is now'
        ' (required is "Yes" where empty; type is "Other" where empty) they would be sent once more: put it back,'
        " give another name with --run, or start anew with d3async cancel a --forget.\n"
    ) in stopped.err
    assert stood == {"ok": 1, "pending": 1}
    assert (other.code, back.code) == (0, 0)
    assert "1 row to send" in back.err


@pytest.mark.parametrize(
    ("state", "then", "typed_too", "code"),
    [
        ("ok", 'map = ["Elsewhere=name"]', (), 2),
        ("ok", 'set = ["required=Yes"]\nmap = ["Elsewhere=name"]', (), 0),
        ("failed", 'set = ["required=Yes", "type=Other"]', (), 0),
        ("ok", 'set = ["required=Yes"]', ("--set", "type=Other"), 0),
        ("ok", 'set = ["required=Yes", "type=Other"]', ("--where", "name=nobody"), 2),
    ],
    ids=["taken away", "of other files", "of rows not done", "typed", "rows left out too, as in a folder"],
)
def test_a_mapping_that_changed_stops_a_submit_only_where_it_would_send_rows_again(
    mapped: Fleet, state: str, then: str, typed_too: tuple[str, ...], code: int
) -> None:
    mapped.ask("update d3async_job set state = %s where id = 1 returning id", state)
    keep(mapped, then)

    again = mapped.run("submit", "a.csv", *typed_too)

    assert again.code == code, again.err
