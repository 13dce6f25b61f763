"""doctor tries what several processes share: the limit's database or file, and the fleet's database."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from d3async.cli.main import cli, exit_code_of
from d3async.journal.postgres.schema import VERSION
from d3async.operations.doctor import judged, of_file
from d3async.ratelimit import postgres_store
from d3async.ratelimit.postgres_store import Trial

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.database import Postgres

pytestmark = pytest.mark.usefixtures("alone")
CANARY = "canary-7f3a9c51e2"
NEEDED = {"D3_BASE_URL": "http://127.0.0.1:1/x", "D3_USERNAME": "u", "D3_SITE": "s", "D3_API_KEY": CANARY}
TABLES = "select count(*) from pg_class where relname like 'd3async%'"


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """What doctor finds with these variables, by the check's name, and all of it; no password is ever there."""

    def run(*arguments: str, **environ: str) -> dict[str, Any]:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        exit_code_of(cli, ["doctor", "--json", *arguments])
        shown = capsys.readouterr()
        assert CANARY not in shown.out + shown.err
        return {"all": shown.out} | {check["check"]: check for check in json.loads(shown.out)["checks"]}

    return run


@pytest.fixture
def closed() -> str:
    """A URL with a password, of a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"postgresql://u:{CANARY}@127.0.0.1:{taken.getsockname()[1]}/x"


def with_password(url: str, user: str = "postgres") -> str:
    return url.replace("postgres@", f"{user}:{CANARY}@")


def ask(url: str, question: str) -> Any:
    with psycopg.connect(url, autocommit=True) as db:
        cursor = db.execute(question.encode())
        return cursor.fetchone()[0] if cursor.description else None  # type: ignore[index]


# the limit


def test_without_a_database_the_file_is_named_that_shares_the_limit_here(found: Any, tmp_path: Path) -> None:
    told = found()["shared limit"]

    assert told["state"] == "ok"
    assert str(tmp_path / "d3async" / "limits.sqlite") in told["text"]
    assert "can be written" in told["text"]


def test_a_file_that_cannot_be_written_is_bad_and_the_cure_says_how_to_do_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    told = of_file(tmp_path / "file" / "limits.sqlite")

    assert told.state == "bad"
    assert "D3_SHARE_LIMIT=no" in told.cure


@pytest.mark.parametrize("arguments", [["--no-share-limit"], []])
def test_sharing_that_is_off_is_told_and_its_database_is_left_alone(
    found: Any, arguments: list[str], closed: str
) -> None:
    environ = {"D3_LIMIT_URL": closed} | ({} if arguments else {"D3_SHARE_LIMIT": "no"})

    told = found(*arguments, **environ)["shared limit"]

    assert told["state"] == "note"
    assert told["text"].startswith("off")
    assert "is not used" in told["text"]


def test_a_database_is_tried_by_reservations_and_nothing_stays_there(postgres: Postgres, found: Any) -> None:
    url = postgres.database()

    told = found(D3_LIMIT_URL=with_password(url))["shared limit"]

    assert told["state"] == "ok"
    for part in ("127.0.0.1", "a reservation takes ", "the first run makes its tables", "its clock is 0.0 s "):
        assert part in told["text"]
    assert ask(url, TABLES) == 0


def test_tables_that_are_there_are_used_and_stay_as_they_are(postgres: Postgres, found: Any) -> None:
    url = postgres.database()
    for statement in postgres_store.SCHEMA:
        ask(url, statement)

    told = found(D3_LIMIT_URL=url)["shared limit"]

    assert (told["state"], "its tables are there" in told["text"]) == ("ok", True)
    assert ask(url, "select (select count(*) from d3async_limit) + (select count(*) from d3async_limit_member)") == 0


def test_a_database_that_is_not_there_is_bad_and_says_what_runs_do_without(found: Any, closed: str) -> None:
    told = found(D3_LIMIT_URL=closed)["shared limit"]

    assert told["state"] == "bad"
    for part in ("refused", "its part of the rate", "1/8"):
        assert part in told["text"]
    assert "Does the server run" in told["cure"]


@pytest.mark.parametrize(
    ("setting", "cure"),
    [
        ("alter database {name} set default_transaction_read_only = on", "the server that is written to"),
        ("revoke create on schema public from public", "grant the role CREATE"),
    ],
)
def test_a_database_that_may_not_be_written_names_its_own_cure(
    postgres: Postgres, found: Any, setting: str, cure: str
) -> None:
    url = postgres.database()
    name = url.rpartition("/")[2]
    ask(url, f"create role {name} login")
    ask(url, setting.format(name=name))

    told = found(D3_LIMIT_URL=with_password(url, name))["shared limit"]

    assert (told["state"], cure in told["cure"]) == ("bad", True)


@pytest.mark.parametrize(
    ("trial", "state", "said"),
    [
        (
            Trial(made=True, round_trip=0.0012, ahead=-2.26),
            "ok",
            "takes 1.2 ms; its tables are there; its clock is 2.3 s behind",
        ),
        (
            Trial(made=False, round_trip=0.2, ahead=90.0),
            "ok",
            "its clock is 90.0 s ahead of this one, which does no harm",
        ),
        (Trial(made=True, round_trip=0.25, ahead=0.0), "bad", "takes 250.0 ms, which counts as lost"),
    ],
)
def test_a_clock_is_only_told_and_what_is_too_slow_is_bad(trial: Trial, state: str, said: str) -> None:
    told = judged(trial, "place")

    assert (told.state, said in told.text) == (state, True)


@pytest.mark.parametrize("user", [f"u:p@{CANARY}", f"u:{CANARY}%zz", f"u:1/{CANARY}"])
@pytest.mark.parametrize("variable", ["D3_LIMIT_URL", "D3_FLEET_URL"])
def test_a_password_that_the_driver_would_misread_is_refused_and_not_told(found: Any, variable: str, user: str) -> None:
    told = found(**NEEDED, **{variable: f"postgresql://{user}@127.0.0.1:1/x"})

    problem = told["settings" if variable == "D3_LIMIT_URL" else "fleet"]
    assert (problem["state"], "write " in problem["text"]) == ("bad", True)


def test_without_a_driver_doctor_says_what_to_install(closed: str) -> None:
    without = "import sys; sys.modules['psycopg'] = None; from d3async.cli.main import main; main()"
    environ = {**os.environ, "D3_LIMIT_URL": closed, "D3_FLEET_URL": closed}

    done = subprocess.run(
        [sys.executable, "-c", without, "doctor"], env=environ, capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert done.stdout.count("pip install 'd3async[fleet]'") == 2
    assert CANARY not in done.stdout + done.stderr


# the fleet


def test_a_fleet_is_only_looked_at_where_one_is_named(found: Any) -> None:
    assert "fleet" not in found()


def test_a_variable_of_the_fleet_is_known_and_taken_for_no_other(found: Any, closed: str) -> None:
    told = found(D3_FLEET_URL=closed)["all"]

    assert "not known here" not in told
    assert "meant?" not in told


def test_a_database_without_tables_says_who_makes_them(postgres: Postgres, found: Any) -> None:
    told = found(D3_FLEET_URL=with_password(postgres.database()))["fleet"]

    assert (told["state"], "`d3async submit` makes them" in told["text"]) == ("note", True)


@pytest.mark.parametrize(
    ("version", "state", "said"),
    [(VERSION, "ok", "a question takes "), (VERSION - 1, "bad", "an older"), (VERSION + 1, "bad", "a newer d3async")],
)
def test_the_version_of_the_fleets_tables_decides(
    postgres: Postgres, found: Any, version: int, state: str, said: str
) -> None:
    url = postgres.database()
    ask(url, f"create table d3async_schema as select {version} as version")

    told = found(D3_FLEET_URL=with_password(url))["fleet"]

    assert (told["state"], said in told["text"]) == (state, True)


def test_a_fleet_that_is_not_there_is_bad(found: Any, closed: str) -> None:
    told = found(D3_FLEET_URL=closed)["fleet"]

    assert told["state"] == "bad"
    assert "cannot be reached" in told["text"]
