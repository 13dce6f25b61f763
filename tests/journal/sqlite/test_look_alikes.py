"""Between a loaded file and its first request: who is asked about, who is not, and what is kept of it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from d3async.errors import LookAlikeError
from d3async.jobs.job import Job
from d3async.journal.model import Selection, Similar
from d3async.journal.reconcile import mark_tasks
from d3async.journal.sqlite.look_alikes import LookAlikeGuard, correct_index
from d3async.journal.sqlite.run_folder import RunFolder, open_folder
from d3async.journal.sqlite.session import FolderSession
from d3async.policy.look_alikes import ALL, Lines
from tests.journal.ground import NOW, load, task

D3 = {"https://d3.example.com/x": [""]}
MANY = 10_000


@contextmanager
def loaded(path: Path, entries: Sequence[Job]) -> Iterator[tuple[RunFolder, LookAlikeGuard]]:
    """*entries* in the folder *path*, as `run` has them when it looks."""
    folder = open_folder(path)
    load(folder, entries)
    folder.begin(Selection(), now=NOW, facts={})
    with LookAlikeGuard(folder, D3, tell=pytest.fail) as guard:
        yield folder, guard


def done(path: Path, entries: Sequence[Job], state: str = "ok", allowed: Lines | None = None) -> None:
    """A run over *entries* that has ended, each row that was to be sent in *state*."""
    with loaded(path, entries) as (folder, guard):
        guard.find(allowed or Lines())
        guard.commit()
        folder.db.execute("update job set state = ?, todo = 0, attempts = 1 where todo = 1", (state,))
        folder.finish(now=NOW, exit_code=0, facts={})
        correct_index(folder, pytest.fail)
        folder.close()


def found(path: Path, entries: Sequence[Job], allowed: Lines | None = None) -> Similar:
    with loaded(path, entries) as (folder, guard):
        similar = guard.find(allowed or Lines())
        folder.abandon()
    return similar


def tasks(count: int, due: str = "2027-01-01 10:00:00", name: str = "Call") -> list[Job]:
    return [task(name, incident=f"2027-{n}", due=due)._replace(raw=f"{n},{name},{due}") for n in range(count)]


def test_new_names_for_the_same_people_appended_to_done_rows_are_neither_stopped_nor_mentioned(tmp_path: Path) -> None:
    done(tmp_path / "run", tasks(MANY))

    similar = found(tmp_path / "run", [*tasks(MANY), *tasks(MANY, name="Write")])

    assert (similar.count, similar.other_day, similar.other_name) == (0, 0, 0)


def test_next_weeks_rows_instead_of_this_weeks_are_mentioned(tmp_path: Path) -> None:
    done(tmp_path / "run", tasks(MANY))

    similar = found(tmp_path / "run", tasks(MANY, due="2027-01-08 10:00:00"))

    assert (similar.count, similar.other_day, similar.other_name) == (0, MANY, 0)


def test_done_rows_under_another_name_are_mentioned_here_and_from_elsewhere(tmp_path: Path) -> None:
    done(tmp_path / "run", tasks(5))

    for place in ("run", "another"):
        similar = found(tmp_path / place, tasks(5, name="Write"))
        assert (similar.count, similar.other_day, similar.other_name) == (0, 0, 5)


@pytest.mark.parametrize("place", ["run", "another"])
def test_every_row_of_a_file_whose_dates_lost_their_seconds_is_found(tmp_path: Path, place: str) -> None:
    done(tmp_path / "run", tasks(MANY, due="2027-01-01 10:00:59"))

    similar = found(tmp_path / place, tasks(MANY, due="2027-01-01 10:00:00"))

    assert (similar.count, str(similar.lines), len(similar.pairs)) == (MANY, f"2-{MANY + 1}", 100)
    assert [(pair.line, pair.differs) for pair in similar.pairs[:3]] == [(2, ("due",)), (3, ("due",)), (4, ("due",))]


@pytest.mark.parametrize(("state", "count"), [("ok", 3), ("unknown", 3), ("failed", 0)])
def test_rows_that_were_refused_are_no_reason_to_stop(tmp_path: Path, state: str, count: int) -> None:
    done(tmp_path / "run", tasks(3), state)

    for place in ("run", "another"):
        assert found(tmp_path / place, tasks(3, due="2027-01-01 10:00:01")).count == count


def test_a_done_row_holds_up_one_new_row_and_not_two(tmp_path: Path) -> None:
    done(tmp_path / "run", tasks(1))

    similar = found(tmp_path / "another", [*tasks(1, due="2027-01-01 11:00:00"), *tasks(1, due="2027-01-01 12:00:00")])

    assert (similar.count, similar.other_day) == (1, 1)


def test_what_was_allowed_once_is_allowed_when_the_run_goes_on(tmp_path: Path) -> None:
    done(tmp_path / "run", tasks(3))
    with loaded(tmp_path / "another", tasks(3)) as (folder, guard):
        assert guard.find(Lines(((2, 3),))).count == 1
        guard.commit()
        folder.close()

    assert str(found(tmp_path / "another", tasks(3)).lines) == "4"
    assert found(tmp_path / "another", tasks(3), ALL).count == 0


def test_what_is_allowed_and_left_out_of_this_run_is_meant_when_its_turn_comes(tmp_path: Path) -> None:
    done(tmp_path / "run", tasks(3))
    pilot = [job._replace(selected=n == 0) for n, job in enumerate(tasks(3))]
    with loaded(tmp_path / "another", pilot) as (folder, guard):
        assert guard.find(Lines(((2, 3),))).count == 0
        guard.commit()
        folder.close()

    assert str(found(tmp_path / "another", tasks(3)).lines) == "4"


def test_what_looked_like_nothing_when_it_was_allowed_is_asked_about_once_it_does(tmp_path: Path) -> None:
    with loaded(tmp_path / "another", [job._replace(selected=False) for job in tasks(3)]) as (folder, guard):
        guard.find(ALL)
        guard.commit()
        folder.close()
    done(tmp_path / "run", tasks(3))

    assert found(tmp_path / "another", tasks(3)).count == 3


def test_a_run_begun_anew_means_the_rows_of_the_one_before_and_no_others(tmp_path: Path) -> None:
    done(tmp_path / "before", tasks(2))
    done(tmp_path / "third", tasks(4)[2:])
    before = open_folder(tmp_path / "before")
    uid = before.meta_of("uid") or ""
    before.abandon()
    folder = open_folder(tmp_path / "new")
    load(folder, [job._replace(selected=n in {0, 3}) for n, job in enumerate(tasks(4))])
    folder.begin(Selection(), now=NOW, facts={})
    with LookAlikeGuard(folder, D3, tell=pytest.fail, again=uid) as guard:
        assert str(guard.find().lines) == "5"
        guard.commit()
        folder.close()

    assert str(found(tmp_path / "new", tasks(4)).lines) == "4-5"
    later = [*tasks(4), *tasks(2, due="2027-01-01 10:00:01")]
    assert str(found(tmp_path / "new", later).lines) == "4-7"


def test_rows_another_process_enters_between_the_look_and_the_commit_are_seen(tmp_path: Path) -> None:
    with loaded(tmp_path / "one", tasks(2)) as (one, first), loaded(tmp_path / "two", tasks(2)) as (two, second):
        assert first.find().count == second.find().count == 0
        first.commit()
        with pytest.raises(LookAlikeError, match="2 rows look like rows sent before"):
            second.commit()
        two.abandon()
        one.close()
    assert not (tmp_path / "two").exists()


def test_a_mark_in_the_description_is_no_difference(tmp_path: Path) -> None:
    with loaded(tmp_path / "run", tasks(1)) as (folder, guard):
        mark_tasks(FolderSession(folder), on=True)
        guard.find()
        guard.commit()
        folder.db.execute("update job set state = 'ok', todo = 0, attempts = 1")
        folder.close()

    (pair,) = found(tmp_path / "another", tasks(1)).pairs
    assert pair.differs == ()
