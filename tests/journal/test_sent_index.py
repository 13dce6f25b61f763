"""The user's index of what was sent: what it keeps, for how long, and what it forgets."""

import sqlite3
from contextlib import ExitStack, closing
from multiprocessing import get_context
from pathlib import Path

import pytest

from d3async.errors import JournalError
from d3async.journal.sent_index import KEPT, IndexedRow, SentIndex, WantedRow, server_digest
from d3async.journal.sqlite import folder_lock

HERE, THERE = server_digest("https://d3.example.com/x"), server_digest("https://other.example.com/x")
ROW = IndexedRow(similar=7, alike=8, due=1000, job=1)
ME = "me"


class Clock:
    now = 1_796_144_400.0

    def __call__(self) -> float:
        return self.now


def enter(index: SentIndex, *rows: IndexedRow, server: int = HERE, uid: str = "other", folder: str = "/gone") -> None:
    with index.alone():
        index.enter(server, uid, Path(folder), rows)


def found(
    index: SentIndex, *rows: IndexedRow, server: int = HERE, own: str = ME, journal: str = "", first: bool = True
) -> list[tuple[int, int, int]]:
    index.find(server, own, [WantedRow(*row, first) for row in rows], journal=journal)
    return [(row.similar, row.due, row.job) for row in index.similar()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "sent.sqlite"


def test_the_same_digest_at_the_same_server_is_found_from_any_other_folder(path: Path) -> None:
    with SentIndex(path) as index:
        enter(index, ROW, ROW._replace(similar=9, job=2))

        assert found(index, ROW._replace(job=50, due=5)) == [(7, 1000, 1)]
        assert found(index, ROW._replace(similar=6)) == []
        assert found(index, ROW, server=THERE) == []
        assert found(index, ROW, own="other", first=False) == []
        assert found(index, ROW, journal="other") == [(7, 1000, 1)]
        assert found(index, ROW, journal="third") == []
        assert index.knows(HERE)
        assert not index.knows(THERE)


def test_a_base_url_is_the_same_in_any_letter_case() -> None:
    assert server_digest("https://D3.example.com/x") == HERE


def test_other_names_have_the_same_incident_assignee_and_due_date(path: Path) -> None:
    with SentIndex(path) as index:
        enter(index, ROW)
        asked = [
            IndexedRow(similar=70, alike=8, due=1000, job=1),
            IndexedRow(similar=70, alike=8, due=1001, job=2),
            IndexedRow(similar=70, alike=9, due=1000, job=3),
            IndexedRow(similar=7, alike=8, due=1000, job=4),
            IndexedRow(similar=70, alike=None, due=1000, job=5),
        ]
        found(index, *asked)

        assert list(index.other_names(HERE, ME)) == [1]


def test_entries_are_dropped_after_180_days(path: Path) -> None:
    clock = Clock()
    with SentIndex(path, clock=clock) as index:
        enter(index, ROW)
        clock.now += KEPT - 1
        assert found(index, ROW) == [(7, 1000, 1)]
        clock.now += 1
        assert found(index, ROW) == []
        enter(index, ROW._replace(similar=9))
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("select similar from sent").fetchall() == [(9,)]


def test_what_was_not_sent_is_taken_out_when_its_run_has_ended(path: Path) -> None:
    with SentIndex(path) as index:
        enter(index, *[ROW._replace(similar=n, job=n) for n in range(1200)], uid="me")
        index.correct("me", Path("/gone"), lambda jobs: [job for job in jobs if job % 2])

        assert [job for *_, job in found(index, *[ROW._replace(similar=n) for n in range(1200)], own="you")] == [
            *range(1, 1200, 2)
        ]


def test_rows_that_were_corrected_once_stay(path: Path) -> None:
    with SentIndex(path) as index:
        enter(index, ROW, uid="me")
        index.correct("me", Path("/gone"), lambda jobs: jobs)
        index.correct("me", Path("/gone"), lambda _: [])

        assert found(index, ROW, own="you") == [(7, 1000, 1)]


def journal(folder: Path, uid: str, *jobs: tuple[int, str, int], running: bool = False) -> None:
    """A journal with what the index asks of one: (id, state, todo), each with the digest of `ROW`."""
    folder.mkdir()
    with closing(sqlite3.connect(folder / "journal.sqlite")) as db, db:
        db.execute("create table meta(key, value)")
        db.execute("create table job(id, state, todo, similar)")
        db.executemany("insert into meta values (?, ?)", [("uid", uid), *([("owner", "{}")] if running else [])])
        db.executemany("insert into job values (?, ?, ?, 7)", jobs)


@pytest.mark.parametrize(
    ("state", "todo", "run", "known"),
    [
        ("ok", 0, "over", True),
        ("sent", 0, "over", True),
        ("unknown", 0, "over", True),
        ("failed", 0, "over", False),
        ("pending", 0, "over", False),
        ("pending", 1, "over", False),
        ("pending", 1, "goes on", True),
        ("failed", 0, "goes on", False),
        # its name is there, and nobody holds the folder: what it was about to send it did not send
        ("pending", 1, "killed", False),
        ("failed", 1, "killed", False),
        ("sent", 1, "killed", True),
        ("ok", 0, "killed", True),
    ],
)
def test_the_journal_a_row_was_sent_from_decides(
    path: Path, tmp_path: Path, state: str, todo: int, run: str, known: bool
) -> None:
    folder = tmp_path / "t.d3run"
    journal(folder, "other", (1, state, todo), running=run != "over")
    with SentIndex(path) as index, ExitStack() as ends:
        if run == "goes on":
            _, lock = folder_lock.take(folder)
            ends.callback(folder_lock.let_go, folder, lock, created=False)
        enter(index, ROW, folder=str(folder))

        assert bool(found(index, ROW)) is known


def test_a_journal_that_is_another_one_now_decides_nothing(path: Path, tmp_path: Path) -> None:
    journal(tmp_path / "t.d3run", "another", (1, "failed", 0))
    (tmp_path / "empty.d3run").mkdir()
    (tmp_path / "empty.d3run" / "journal.sqlite").touch()
    with SentIndex(path) as index:
        enter(index, ROW, folder=str(tmp_path / "t.d3run"))
        enter(index, ROW, folder=str(tmp_path / "empty.d3run"), uid="third")

        assert found(index, ROW) == [(7, 1000, 1), (7, 1000, 1)]


def test_a_row_of_the_same_journal_counts_where_another_copy_of_it_has_sent_it(path: Path) -> None:
    with SentIndex(path) as index:
        enter(index, ROW, uid="me")
        assert found(index, ROW) == []
        index.correct("me", Path("/gone"), lambda jobs: jobs)
        assert found(index, ROW) == [(7, 1000, 1)]
        assert found(index, ROW._replace(job=2)) == []
        assert found(index, ROW, first=False) == [], "its own journal sent it, and knows that it did not happen"


def test_a_moved_folder_is_remembered_and_a_copy_corrects_nothing(path: Path, tmp_path: Path) -> None:
    journal(tmp_path / "t.d3run", "other", (1, "ok", 0))
    with SentIndex(path) as index:
        enter(index, ROW, folder=str(tmp_path / "t.d3run"))
        index.correct("other", tmp_path / "copy.d3run", lambda _: [])
        assert found(index, ROW) == [(7, 1000, 1)]

        (tmp_path / "t.d3run").rename(tmp_path / "moved.d3run")
        index.correct("other", tmp_path / "moved.d3run", lambda jobs: jobs)
        found(index, ROW)
        (row,) = index.similar()
        assert row.run is not None
        assert index.sent_from(row.run).folder == str(tmp_path / "moved.d3run")


def test_what_is_entered_holds_at_once_or_not_at_all(path: Path) -> None:
    with SentIndex(path) as index:
        with pytest.raises(TypeError), index.alone():
            index.enter(HERE, "other", Path("/gone"), [ROW, None])  # type: ignore[list-item]
        assert found(index, ROW) == []


def _enter_many(path: Path, uid: str) -> None:
    with SentIndex(path) as index:
        for job in range(20):
            enter(index, ROW._replace(job=job), uid=uid)


def test_several_processes_enter_rows_at_the_same_time(path: Path) -> None:
    processes = [get_context("spawn").Process(target=_enter_many, args=(path, f"p{n}")) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    with SentIndex(path) as index:
        assert len(found(index, ROW)) == 60


def test_the_file_is_for_its_owner_alone(path: Path) -> None:
    SentIndex(path).close()

    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [at.name for at in path.parent.iterdir()] == ["sent.sqlite"]


@pytest.mark.parametrize("damage", [b"not SQLite at all, by any means" * 40, b"SQLite format 3\x00" + bytes(4080)])
def test_a_damaged_file_is_set_apart_and_a_new_one_begun(path: Path, damage: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(damage)

    with SentIndex(path) as index:
        enter(index, ROW)
        assert found(index, ROW) == [(7, 1000, 1)]
    assert path.with_name("sent.sqlite.damaged").read_bytes() == damage


def test_an_index_of_a_newer_version_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as db:
        db.execute("pragma user_version = 99")
    before = path.read_bytes()

    with pytest.raises(JournalError, match="newer d3async"):
        SentIndex(path)
    assert path.read_bytes() == before


def test_a_place_that_is_no_file_is_an_error_in_words(path: Path) -> None:
    path.mkdir(parents=True)

    with pytest.raises(JournalError, match=r"sent\.sqlite: unable to open"):
        SentIndex(path)
