"""Rows of several D3s in one journal: nothing of one is ever taken for something of another."""

import gzip
import sqlite3
from hashlib import blake2b
from pathlib import Path

import pytest

from d3async.d3.commands.remove_linked_incidents import RemoveLinkedIncidents
from d3async.d3.response import Reply, TransportFailure
from d3async.errors import JournalError
from d3async.jobs.identity import identify
from d3async.jobs.job import Job, request_of
from d3async.journal.reconcile import UnknownRows
from d3async.journal.sqlite.reader import FolderReader
from d3async.journal.sqlite.run_folder import FILE, open_folder
from d3async.journal.sqlite.schema import VERSION
from d3async.journal.sqlite.session import FolderSession, hold
from d3async.policy.batching import wave_of
from tests.journal.ground import Run, changed, links, load, task

HERE = Path(__file__).parent
OK = Reply(data=None, status="ok")
LOST = TransportFailure(sent=True, code="connection_lost", message="gone")


def at(profile: str | None, entry: Job) -> Job:
    return entry._replace(profile=profile)


def test_a_row_without_a_profile_is_the_row_it_was_before_there_were_profiles() -> None:
    """Worked out by hand, and for the id by the version before: journals that are there go on."""
    plain = identify(task("x"))
    params = (
        '{"Incident Number":"20220125-1","Task Name":"x","Task Description":"x","Assignee":"admin user",'
        '"Due Date":"2027-01-01 10:00:00"}'
    )
    known = f"10:CreateTask3:SOC{len(params)}:{params}"
    assert plain.identity == blake2b(known.encode(), digest_size=16).digest()
    assert identify(task("x", key="k")).identity.hex() == "dd15d22de2de4faa0e24a4f84eb56ac2"
    assert plain.lane_key == "\x1fSOC\x1f20220125-1"


def test_what_a_row_is_depends_on_its_profile() -> None:
    rows = [task("x"), at("a", task("x")), at("b", task("x"))]
    keyed = [entry._replace(key="k") for entry in rows]
    told = [identify(entry) for entry in (*rows, *keyed)]
    assert len({entry.identity for entry in told}) == 6
    assert len({entry.content for entry in told}) == 3
    assert len({entry.lane_key for entry in told}) == 3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (at("a", task("x")), task("x")._replace(username="a")),
        (at("a", task("x"))._replace(username="b"), at("ab", task("x"))),
        (at("a", task("x", site="b")), at("ab", task("x", site=""))),
    ],
)
def test_no_user_and_no_site_passes_for_a_profile(one: Job, other: Job) -> None:
    assert identify(one).lane_key != identify(other).lane_key


def test_the_same_row_for_two_profiles_is_no_duplicate_and_twice_for_one_is(tmp_path: Path) -> None:
    run = Run(tmp_path, [task("x"), at("a", task("x")), at("b", task("x")), at("b", task("x"))])
    assert run.states() == ["pending", "pending", "pending", "invalid"]
    run.end()


def test_each_engine_is_given_the_rows_of_its_profile_alone(tmp_path: Path) -> None:
    entries = [at(name, task(f"{name}{n}")) for n in range(3) for name in (None, "a", "b")]
    run = Run(tmp_path, entries)
    rows = {name: [call.row for _, call in run.store.lanes(-1, 100, name) if call] for name in (None, "a", "b", "c")}
    assert rows == {None: [1, 4, 7], "a": [2, 5, 8], "b": [3, 6, 9], "c": []}
    assert [lane for lane, _ in run.store.lanes(2, 1, "a")] == [5]
    run.end()


def test_links_of_one_source_number_at_two_d3s_go_in_calls_of_their_own(tmp_path: Path) -> None:
    run = Run(tmp_path, [at(name, links(linked)) for name in ("a", "b", None) for linked in ("1-1", "1-2")])
    found = {}
    for name in ("a", "b", None):
        [(lane, _)] = run.store.lanes(-1, 100, name)
        call = run.store.take(lane, 50)
        assert call is not None
        found[name] = (lane, call.items)
        run.answer(call, OK)
    assert found == {"a": (1, ("1-1", "1-2")), "b": (3, ("1-1", "1-2")), None: (5, ("1-1", "1-2"))}
    assert run.states() == ["ok"] * 6
    run.end()


def test_a_link_removed_at_one_d3_is_not_known_to_be_gone_at_another(tmp_path: Path) -> None:
    """Incident numbers mean the same within one D3 only, also from the other end of a link."""
    entries = [at("a", links("9-9", source="8-8")), at("b", links("8-8", source="9-9")), links("8-8", source="9-9")]
    run = Run(tmp_path, entries)
    [(lane, _)] = run.store.lanes(-1, 100, "a")
    call = run.store.take(lane, 50)
    assert call is not None
    run.answer(call, OK)
    for name in ("b", None):
        [(lane, _)] = run.store.lanes(-1, 100, name)
        call = run.store.take(lane, 50)
        assert call is not None
        assert (call.tried, call.gone) == (frozenset(), frozenset())
    run.end()


def test_mirrored_pairs_stand_in_two_waves_within_one_profile_and_not_across_two(tmp_path: Path) -> None:
    forth, back = links("9-9", source="8-8"), links("8-8", source="9-9")
    run = Run(tmp_path, [at("a", forth), at("a", back), at("b", forth), at(None, back)])
    waves = {name: [wave_of(lane) for lane, _ in run.store.lanes(-1, 100, name)] for name in ("a", "b", None)}
    assert waves == {"a": [0, 1], "b": [0], None: [0]}
    run.end()


def test_serial_rows_share_a_lane_within_their_profile_alone(tmp_path: Path) -> None:
    run = Run(tmp_path, [at(name, task(f"{name}{n}")) for n in range(2) for name in ("a", None)], serial=True)
    assert [lane for lane, _ in run.store.lanes(-1, 100, "a")] == [1]
    assert [lane for lane, _ in run.store.lanes(-1, 100)] == [2]
    run.end()


def test_reading_back_asks_each_d3_about_its_own_rows(tmp_path: Path) -> None:
    run = Run(tmp_path, [at("a", task("x")), task("x"), at("a", links("1-1")), links("1-1")])
    for name in ("a", None):
        for lane, first in run.store.lanes(-1, 100, name):
            call = first or run.store.take(lane, 50)
            assert call is not None
            run.answer(call, LOST)
    run.end()
    folder = hold(tmp_path, now=0.0)
    for name, (unknown, item) in {"a": (1, 1), None: (2, 2)}.items():
        rows = UnknownRows(FolderSession(folder), name)
        assert rows.counts() == (1, 1, 0)
        [incident] = rows.task_incidents()
        assert [sent.job for sent in rows.unknown_tasks(incident)] == [unknown]
        pairs = rows.links()
        [[source]] = pairs.batches(50)
        assert [pair.item for some in pairs.of(source) for pair in some] == [item]
        pairs.close()
    folder.abandon()


def version_1(folder: Path) -> Path:
    """A run folder as the version before left it: ok, failed, partial, unknown, and two rows not sent."""
    folder.mkdir(exist_ok=True)
    (folder / FILE).write_bytes(gzip.decompress((HERE / "version_1.sqlite.gz").read_bytes()))
    return folder


def tables(path: Path) -> list[str]:
    with sqlite3.connect(path) as db:
        found = db.execute("select name from pragma_table_info('job') union all select name from sqlite_schema")
        return sorted(name for (name,) in found)


def test_a_journal_of_version_1_becomes_what_a_new_one_is_and_keeps_every_word(tmp_path: Path) -> None:
    old = version_1(tmp_path / "old")
    with FolderReader(old / FILE) as reader:
        before = (reader.counts(), list(reader.rows(full=True)), list(reader.items()), reader.runs())

    folder = open_folder(old)
    folder.commit()
    folder.close()
    new = Run(tmp_path / "new", [task("x")])
    new.end()

    with FolderReader(old / FILE) as reader:
        assert (reader.counts(), list(reader.rows(full=True)), list(reader.items()), reader.runs()) == before
        assert reader.meta()["schema"] == str(VERSION)
        assert reader.query("select distinct profile from job") == [(None,)]
    assert tables(old / FILE) == tables(tmp_path / "new" / FILE)


def test_a_journal_of_version_1_is_left_as_it_was_when_the_run_is_given_up(tmp_path: Path) -> None:
    old = version_1(tmp_path)
    open_folder(old).abandon()
    with FolderReader(old / FILE) as reader:
        assert reader.meta()["schema"] == "1"
    assert "profile" not in tables(old / FILE)


def test_rows_of_a_journal_of_version_1_are_known_again_by_their_ids_and_by_what_they_say(tmp_path: Path) -> None:
    """The same link, which version 1 removed; it is not sent again, and one it never sent is."""
    old = open_folder(version_1(tmp_path))
    was = {
        row: (identity, content) for row, identity, content in old.db.execute("select row, identity, content from job")
    }
    done = RemoveLinkedIncidents(source="20231025-130", linked=["20210127-198", "20210127-197"])
    again = changed(links("x"), asked=request_of(done), site="Security Operations")
    told = identify(again)  # type: ignore[arg-type]
    assert (told.identity, told.content) == was[5]
    changes = load(old, [again])
    assert (changes.same, changes.new, changes.vanished) == (1, 0, 8)
    old.abandon()


def test_a_newer_journal_is_refused(tmp_path: Path) -> None:
    folder = version_1(tmp_path)
    with sqlite3.connect(folder / FILE) as db:
        db.execute("update meta set value = ? where key = 'schema'", (str(VERSION + 1),))
    with pytest.raises(JournalError, match="newer d3async"):
        open_folder(folder)
