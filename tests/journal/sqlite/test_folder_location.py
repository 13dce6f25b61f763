"""Where an open run folder is: a look tells moved from deleted and replaced, and what is elsewhere is left alone."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from d3async.errors import FolderGoneError
from d3async.journal.model import Selection
from d3async.journal.sqlite.folder_lock import FolderLocation, is_held
from d3async.journal.sqlite.run_folder import FILE, open_folder
from tests.journal.ground import NOW, load, task

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there an open file cannot be moved or deleted")


def stays(folder: Path) -> Path | None:
    return folder


def written_beside(folder: Path) -> Path | None:
    (folder / "results.csv").touch()
    return folder


def cannot_be_looked_at(folder: Path) -> Path | None:
    folder.chmod(0)
    return folder


def moved(folder: Path) -> Path | None:
    return folder.rename(folder.with_name("other"))


def moved_with_its_parent(folder: Path) -> Path | None:
    return folder.parent.rename(folder.parent.with_name("other")) / folder.name


def moved_and_replaced(folder: Path) -> Path | None:
    found = moved(folder)
    folder.mkdir()
    (folder / FILE).touch()
    return found


def moved_twice(folder: Path) -> Path | None:
    return folder.rename(folder.with_name("first")).rename(folder.with_name("second"))


def deleted(folder: Path) -> Path | None:
    shutil.rmtree(folder)
    return None


def deleted_and_made_again(folder: Path) -> Path | None:
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / FILE).touch()
    return None


def moved_and_deleted(folder: Path) -> Path | None:
    return deleted(folder.rename(folder.with_name("other")))


def a_file_in_its_place(folder: Path) -> Path | None:
    shutil.rmtree(folder)
    folder.touch()
    return None


def without_its_journal(folder: Path) -> Path | None:
    (folder / FILE).unlink()
    return None


def another_journal_over_it(folder: Path) -> Path | None:
    (folder / "copy").touch()
    (folder / "copy").rename(folder / FILE)
    return None


@pytest.mark.parametrize(
    "change",
    [
        stays, written_beside, cannot_be_looked_at, moved, moved_with_its_parent, moved_and_replaced, moved_twice,
        deleted, deleted_and_made_again, moved_and_deleted, a_file_in_its_place, without_its_journal,
        another_journal_over_it,
    ],
)  # fmt: skip
def test_what_became_of_a_folder(tmp_path: Path, change: Callable[[Path], Path | None]) -> None:
    folder = tmp_path / "parent" / "t.d3run"
    folder.mkdir(parents=True)
    with (folder / FILE).open("w"):
        location = FolderLocation(folder, FILE)
        expected = change(folder)
        assert location.find() == expected
        assert location.find() == expected
        location.close()
    if expected is not None:
        expected.chmod(0o700)


def begun(folder: Path) -> None:
    with_rows = open_folder(folder)
    load(with_rows, [task(f"{n}") for n in range(3)])
    with_rows.begin(Selection(), now=NOW, facts={})
    with_rows.commit()
    with_rows.close()


def test_a_folder_that_was_moved_is_gone_on_with_there(tmp_path: Path) -> None:
    begun(tmp_path / "a")
    folder = open_folder(tmp_path / "a")
    folder.commit()
    moved_and_replaced(tmp_path / "a")
    folder.follow()
    folder.note("after", "yes")
    folder.close()

    assert [path.name for path in (tmp_path / "other").iterdir()] == [FILE]
    assert (tmp_path / "a" / FILE).stat().st_size == 0
    again = open_folder(tmp_path / "other")
    assert again.meta_of("after") == "yes"
    again.abandon()


def test_a_journal_that_was_deleted_is_saved_whole_and_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    begun(tmp_path / "a")
    folder = open_folder(tmp_path / "a")
    folder.commit()
    deleted(tmp_path / "a")
    with pytest.raises(FolderGoneError):
        folder.follow()

    assert f"saved in {folder.folder}" not in str(folder.gone())
    told = folder.save()
    assert f"saved in {folder.folder}; this run has sent nothing" in told.message
    assert folder.db.execute("select count(*) from job").fetchone() == (3,)
    assert (folder.folder / FILE).stat().st_mode & 0o77 == 0
    folder.close()


def test_what_others_put_at_the_path_meanwhile_is_theirs(tmp_path: Path) -> None:
    begun(tmp_path / "a")
    folder = open_folder(tmp_path / "a")
    folder.commit()
    deleted(tmp_path / "a")
    theirs = open_folder(tmp_path / "a")
    theirs.commit()
    folder.close()

    assert is_held(tmp_path / "a") is True
    assert theirs.find() == tmp_path / "a"
    theirs.note("still", "here")
    theirs.close()


def test_a_folder_that_others_made_before_anything_was_sent_is_theirs(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "a")
    deleted(tmp_path / "a")
    theirs = open_folder(tmp_path / "a")
    theirs.commit()
    folder.abandon()

    assert theirs.find() == tmp_path / "a"
    theirs.close()


@pytest.mark.parametrize(
    ("lines", "expected"),
    [([], "this run has sent nothing"), ([4], "lines 4"), ([2, 3, 4, 7, 9, 10], "lines 2-4, 7, 9-10")],
)
def test_the_lines_that_were_sent_are_told_in_short(tmp_path: Path, lines: list[int], expected: str) -> None:
    begun(tmp_path / "a")
    folder = open_folder(tmp_path / "a")
    folder.db.execute("delete from job")
    for line in lines:
        folder.db.execute(
            "insert into job(line, identity, occurrence, raw, state, epoch, attempts)"
            " values (?, ?, 0, '', 'sent', 0, 1)",
            (line, str(line).encode()),
        )
    assert folder.sent_lines().endswith(expected)
    folder.abandon()
