"""failed.csv and its kin continue the run they came from: mended rows are its rows, and nothing is sent twice."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.end_to_end.ground import Cli, Site, rows_of, running, summary_of
from tests.end_to_end.test_reconcile import lost
from tests.end_to_end.test_suggestions import follow

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "incident,name,description,assignee,due\n"
HERE, NOWHERE = "20220125-1", "19000101-1"


def task(name: str, incident: str = HERE, assignee: str = "admin user", day: int = 1) -> str:
    return f"{incident},{name},Look at it,{assignee},2027-05-{day:02} 12:00:00\n"


def write(path: Path, *rows: str, header: str = HEADER) -> Path:
    path.write_text(header + "".join(rows))
    return path


def created(site: Site) -> Counter[str]:
    return Counter(task["Task Name"] for task in site.ledger()["tasks"])


def outcomes(folder: Path) -> list[tuple[str, str]]:
    return [(row["name"], row["_outcome"]) for row in rows_of(folder / "results.csv")]


def mend(file: Path, old: str = NOWHERE, new: str = HERE) -> Path:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    return file


def test_a_row_mended_in_failed_csv_is_done_for_the_file_it_came_from(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", task("a"), task("b", NOWHERE))
    folder = tmp_path / "t.d3run"
    first = cli("run", "t.csv", env=d3.env)
    assert first.code == 1, first.err
    mend(folder / "failed.csv")

    second = cli("run", "t.d3run/failed.csv", env=d3.env)

    assert second.code == 0, second.err
    assert created(d3) == {"a": 1, "b": 1}
    assert outcomes(folder) == [("a", "ok"), ("b", "ok")]
    assert rows_of(folder / "results.csv")[1]["incident"] == HERE
    assert summary_of(folder)["outcomes"]["ok"] == 2
    assert summary_of(folder)["next"] is None
    assert not (folder / "failed.d3run").exists()
    assert not list(folder.glob("failed*")), "all its rows are done"
    assert "t.csv" not in cli("status", "t.d3run").out.partition("results")[2]
    assert follow(cli, d3, second) == []

    again = cli("run", "t.csv", env=d3.env)

    assert again.code == 0, again.err
    assert created(d3) == {"a": 1, "b": 1}
    assert outcomes(folder) == [("a", "ok"), ("b", "ok")]

    write(tmp_path / "t.csv", task("c"), task("a"), task("b", NOWHERE))
    more = cli("run", "t.csv", env=d3.env)

    assert more.code == 0, more.err
    assert "1 done as mended in a feedback file" in more.err
    assert created(d3) == {"a": 1, "b": 1, "c": 1}
    assert rows_of(folder / "results.csv")[2]["incident"] == HERE


@pytest.mark.parametrize("options", [(), ("--id-column", "key")])
def test_however_the_original_is_mended_afterwards_nothing_is_sent_again(
    d3: Site, cli: Cli, tmp_path: Path, options: tuple[str, ...]
) -> None:
    header = f"key,{HEADER}"
    rows = [f"k1,{task('a')}", f"k2,{task('b', NOWHERE)}", f"k3,{task('c', NOWHERE)}"]
    write(tmp_path / "t.csv", *rows, header=header)
    cli("run", "t.csv", *options, env=d3.env)
    mend(tmp_path / "t.d3run" / "failed.csv")
    assert cli("run", "t.d3run/failed.csv", env=d3.env).code == 0

    # b as it was mended, c as it was at first, and both in another place
    write(tmp_path / "t.csv", rows[2], f"k2,{task('b')}", rows[0], header=header)
    again = cli("run", "t.csv", *options, env=d3.env)

    assert again.code == 0, again.err
    assert created(d3) == {"a": 1, "b": 1, "c": 1}
    assert outcomes(tmp_path / "t.d3run") == [("c", "ok"), ("b", "ok"), ("a", "ok")]
    assert not {row["_code"] for row in rows_of(tmp_path / "t.d3run" / "results.csv")} - {""}


def test_rows_may_be_sorted_thinned_out_and_changed(d3: Site, cli: Cli, tmp_path: Path) -> None:
    names = ["a", "b", "c", "d"]
    write(tmp_path / "t.csv", *(task(name, NOWHERE) for name in names), task("e"))
    folder = tmp_path / "t.d3run"
    cli("run", "t.csv", env=d3.env)
    head, *rows = (folder / "failed.csv").read_text().splitlines()
    assert head == HEADER.strip() + ",_row"
    kept = [rows[3], rows[0]]
    (folder / "failed.csv").write_text("\n".join([head, *kept]).replace(NOWHERE, HERE).replace(",d,", ",new name,"))

    ran = cli("run", "t.d3run/failed.csv", env=d3.env)

    assert ran.code == 1, ran.err
    assert created(d3) == {"e": 1, "a": 1, "new name": 1}
    assert outcomes(folder) == [
        ("a", "ok"), ("b", "failed"), ("c", "failed"), ("new name", "ok"), ("e", "ok"),
    ]  # fmt: skip
    assert [row["name"] for row in rows_of(folder / "failed.csv")] == ["b", "c"]


def test_a_second_generation_goes_on_where_the_first_failed_again(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", task("a", NOWHERE), task("b", NOWHERE))
    folder = tmp_path / "t.d3run"
    cli("run", "t.csv", env=d3.env)
    text = (folder / "failed.csv").read_text()
    (folder / "failed.csv").write_text(text.replace(f"{NOWHERE},a", f"{HERE},a").replace(",b,", ",b mended,"))

    second = cli("run", "t.d3run/failed.csv", env=d3.env)

    assert second.code == 1, second.err
    assert "left t.d3run/failed.csv (changed since it was written; not overwritten)" in second.err
    assert "t.d3run/failed-2.csv: mend its rows" in second.err
    assert "t.d3run/failed-2.csv: mend its rows" in cli("status", "t.d3run").out
    assert [row["name"] for row in rows_of(folder / "failed-2.csv")] == ["b mended"]
    mend(folder / "failed-2.csv")

    third = cli("run", "t.d3run/failed-2.csv", env=d3.env)

    assert third.code == 0, third.err
    assert created(d3) == {"a": 1, "b mended": 1}
    for name in ("t.csv", "t.d3run/failed.csv"):
        again = cli("run", name, env=d3.env)
        assert again.code in {0, 2}, again.err
        assert created(d3) == {"a": 1, "b mended": 1}


def test_a_row_that_was_sent_since_is_refused_with_both_texts(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", task("a"), task("b", NOWHERE))
    folder = tmp_path / "t.d3run"
    cli("run", "t.csv", env=d3.env)
    old = mend(folder / "failed.csv").read_text()
    assert cli("run", "t.d3run/failed.csv", env=d3.env).code == 0

    # the same file again is done; one that says something else by then is not sent
    (folder / "mine.csv").write_text(old)
    assert cli("run", "t.d3run/mine.csv", env=d3.env).code == 0
    (folder / "mine.csv").write_text(old.replace(",b,", ",b once more,"))
    refused = cli("run", "t.d3run/mine.csv", env=d3.env)

    assert refused.code == 2, refused.err
    assert "was done after this file was written" in refused.err
    assert "b once more" in refused.err
    assert "ok: " in refused.err
    assert created(d3) == {"a": 1, "b": 1}


def test_a_row_changed_in_the_original_or_gone_from_it_is_refused(d3: Site, cli: Cli, tmp_path: Path) -> None:
    rows = [task("a", NOWHERE), task("b", NOWHERE), task("c", NOWHERE)]
    header = f"key,{HEADER}"
    keyed = [f"{name},{row}" for name, row in zip("xyz", rows, strict=True)]
    write(tmp_path / "t.csv", *keyed, header=header)
    folder = tmp_path / "t.d3run"
    cli("run", "t.csv", "--id-column", "key", env=d3.env)
    mend(folder / "failed.csv")
    write(tmp_path / "t.csv", keyed[0], keyed[1].replace(",b,", ",b changed,"), header=header)
    cli("run", "t.csv", "--id-column", "key", env=d3.env)

    refused = cli("run", "t.d3run/failed.csv", env=d3.env)

    assert refused.code == 2, refused.err
    assert "was changed in t.csv" in refused.err
    assert "is no longer in t.csv" in refused.err
    assert not created(d3)


def test_a_mark_of_another_folder_copied_or_missing_sends_nothing(d3: Site, cli: Cli, tmp_path: Path) -> None:
    for name in ("t", "u"):
        write(tmp_path / f"{name}.csv", task(f"{name}1", NOWHERE), task(f"{name}2", NOWHERE))
        cli("run", f"{name}.csv", env=d3.env)
    folder, other = tmp_path / "t.d3run", tmp_path / "u.d3run"
    text = mend(folder / "failed.csv").read_text()
    head, first, second = text.splitlines()

    (other / "strange.csv").write_text(text)
    strange = cli("run", "u.d3run/strange.csv", env=d3.env)
    assert strange.code == 2
    assert "belongs to another run folder" in strange.err

    mark = first.rpartition(",")[2]
    (folder / "failed.csv").write_text("\n".join([head, first, second.rpartition(",")[0] + "," + mark]))
    copied = cli("run", "t.d3run/failed.csv", env=d3.env)
    assert copied.code == 3
    assert "is on line 2 already" in copied.err

    (folder / "failed.csv").write_text("\n".join([head, first, second.rpartition(",")[0] + ","]))
    missing = cli("run", "t.d3run/failed.csv", env=d3.env)
    assert missing.code == 3
    assert "is no mark of a row" in missing.err
    assert not created(d3)

    (folder / "failed.csv").write_text("\n".join(line.rpartition(",")[0] for line in (head, first, second)))
    unmarked = cli("run", "t.d3run/failed.csv", env=d3.env)
    assert unmarked.code == 2
    assert "d3async results t.d3run" in unmarked.err
    assert not created(d3)


def test_a_file_that_was_moved_needs_its_run_folder(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", task("a"), task("b", NOWHERE))
    cli("run", "t.csv", env=d3.env)
    mend(tmp_path / "t.d3run" / "failed.csv").rename(tmp_path / "mine.csv")

    alone = cli("run", "mine.csv", env=d3.env)
    assert alone.code == 2
    assert "d3async run mine.csv -o RUNFOLDER" in alone.err
    assert not (tmp_path / "mine.d3run").exists()

    assert cli("run", "mine.csv", "-o", "nowhere.d3run", env=d3.env).code == 2
    assert not (tmp_path / "nowhere.d3run").exists()

    named = cli("run", "mine.csv", "-o", "t.d3run", env=d3.env)
    assert named.code == 0, named.err
    assert created(d3) == {"a": 1, "b": 1}
    assert (tmp_path / "mine.csv").exists()


def test_what_the_user_changed_is_never_overwritten(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", task("a", NOWHERE))
    folder = tmp_path / "t.d3run"
    cli("run", "t.csv", env=d3.env)
    mine = mend(folder / "failed.csv").read_bytes()

    left = "left t.d3run/failed.csv (changed since it was written; not overwritten)"
    assert left in cli("results", "t.d3run").err
    assert left in cli("run", "t.csv", env=d3.env).err
    assert (folder / "failed.csv").read_bytes() == mine
    assert [path.name for path in sorted(folder.glob("failed*"))] == ["failed-2.csv", "failed.csv"]
    (folder / "failed.csv").unlink()
    cli("results", "t.d3run")
    assert [path.name for path in sorted(folder.glob("failed*"))] == ["failed.csv"]


def test_check_limit_where_and_dry_run_work_on_a_feedback_file(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", *(task(name, NOWHERE) for name in "abc"))
    folder = tmp_path / "t.d3run"
    cli("run", "t.csv", env=d3.env)
    mend(folder / "failed.csv")

    checked = cli("check", "t.d3run/failed.csv", env=d3.env)
    assert checked.code == 0, checked.err
    assert "d3async run t.d3run/failed.csv" in checked.err
    dry = cli("run", "t.d3run/failed.csv", "--dry-run", env=d3.env)
    assert dry.code == 0, dry.err
    assert dry.out.count(HERE) >= 3
    assert not created(d3)

    assert cli("run", "t.d3run/failed.csv", "--limit", "1", env=d3.env).code == 1
    assert created(d3) == {"a": 1}
    assert cli("run", "t.d3run/failed.csv", "--where", "name=c", env=d3.env).code == 1
    assert created(d3) == {"a": 1, "c": 1}
    assert outcomes(folder) == [("a", "ok"), ("b", "failed"), ("c", "ok")]

    last = cli("run", "t.d3run/failed.csv", env=d3.env)
    assert last.code == 0, last.err
    assert created(d3) == {"a": 1, "b": 1, "c": 1}


def test_a_file_is_read_as_its_run_was(d3: Site, cli: Cli, tmp_path: Path) -> None:
    text = "Nr;name;description;Wer;due\n20220125-1;a;x;admin user;24/03/2027\n19000101-1;b;x;;05/03/2027\n"
    (tmp_path / "t.csv").write_text(text)
    options = ("--map", "Nr=incident", "--map", "Wer=assignee", "--set", "assignee=admin user")
    cli("run", "t.csv", *options, "--date-format", "dd/MM/yyyy", "-o", "out", env=d3.env)
    mend(tmp_path / "out" / "failed.csv")

    ran = cli("run", "out/failed.csv", env=d3.env)

    assert ran.code == 0, ran.err
    assert {task["Task Name"]: task["Due Date"][:10] for task in d3.ledger()["tasks"]} == {
        "a": "2027-03-24", "b": "2027-03-05",
    }  # fmt: skip
    assert "mapping of the run" in ran.err


def test_rows_that_are_not_in_the_file_keep_their_outcomes(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", task("a", NOWHERE), task("b"), task("c"))
    folder = tmp_path / "t.d3run"
    cli("run", "t.csv", "--limit", "1", env=d3.env)
    assert outcomes(folder) == [("a", "failed"), ("b", "unsent"), ("c", "unsent")]
    mend(folder / "failed.csv")

    ran = cli("run", "t.d3run/failed.csv", env=d3.env)

    assert outcomes(folder) == [("a", "ok"), ("b", "unsent"), ("c", "unsent")], ran.err
    assert "to go on  d3async run t.csv --continue" in ran.err
    assert summary_of(folder)["vanished"] == 0
    assert cli("run", "t.csv", "--continue", env=d3.env).code == 0
    assert created(d3) == {"a": 1, "b": 1, "c": 1}


def test_a_run_of_the_file_that_was_cut_short_goes_on_with_the_file(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", *(task(name, NOWHERE) for name in "abcd"), task("e"))
    cli("run", "t.csv", "--limit", "4", env=d3.env)
    failed = tmp_path / "t.d3run" / "failed.csv"
    failed.write_text(failed.read_text().replace(NOWHERE, HERE).replace(f"{HERE},b", f"{NOWHERE},b"))

    ran = cli("run", "t.d3run/failed.csv", "--halt", "failed=1", "--concurrency", "1", env=d3.env)

    assert ran.code == 5, ran.err
    assert created(d3)["d"] == 0
    assert follow(cli, d3, ran) == ["run t.d3run/failed.csv --continue", "run t.csv --continue"]
    assert created(d3) == dict.fromkeys("acde", 1)


def test_two_rows_mended_into_the_same_task_are_one_too_many(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", task("a"), task("b", NOWHERE), task("c", NOWHERE))
    folder = tmp_path / "t.d3run"
    cli("run", "t.csv", env=d3.env)
    text = (folder / "failed.csv").read_text().replace(NOWHERE, HERE)

    (folder / "failed.csv").write_text(text.replace(",b,", ",a,"))
    done = cli("run", "t.d3run/failed.csv", env=d3.env)
    assert done.code == 3, done.err
    assert "the same as line 2 of t.csv" in done.err

    (folder / "failed.csv").write_text(text.replace(",c,", ",b,"))
    twins = cli("run", "t.d3run/failed.csv", env=d3.env)
    assert twins.code == 3, twins.err
    assert created(d3) == {"a": 1}


def test_invalid_rows_are_mended_the_same_way(d3: Site, cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", task("a"), task("b", assignee=""), "20220125-1,c,x\n")
    folder = tmp_path / "t.d3run"
    cli("run", "t.csv", "--skip-invalid", env=d3.env)

    unchanged = cli("run", "t.d3run/failed.csv", env=d3.env)
    assert unchanged.code == 3, unchanged.err
    text = (folder / "failed.csv").read_text()
    text = text.replace("it,,2027", "it,admin user,2027").replace(",c,x,,,", ",c,x,admin user,2027-05-01,")
    (folder / "failed.csv").write_text(text)

    ran = cli("run", "t.d3run/failed.csv", env=d3.env)

    assert ran.code == 0, ran.err
    assert created(d3) == {"a": 1, "b": 1, "c": 1}
    again = cli("run", "t.csv", "--skip-invalid", env=d3.env)
    assert again.code == 0, again.err
    assert outcomes(folder) == [("a", "ok"), ("b", "ok"), ("c", "ok")]
    assert created(d3) == {"a": 1, "b": 1, "c": 1}


def test_a_row_that_may_have_happened_stays_unsent_whatever_the_file_says(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", task("drop-after a"), task("b"))
    folder = tmp_path / "t.d3run"
    with running(rate=None, faults=lost) as d3:
        assert cli("run", "t.csv", env=d3.env).code == 4
        d3.url.set_faults(None)
        mend(folder / "unknown.csv", "drop-after a", "a again")

        ran = cli("run", "t.d3run/unknown.csv", env=d3.env)

        assert ran.code == 4, ran.err
        assert "1 unknown: not sent, whatever the file says of them" in ran.err
        assert created(d3) == {"drop-after a": 1, "b": 1}
        assert outcomes(folder) == [("drop-after a", "unknown"), ("b", "ok")]
        assert "a again" in (folder / "unknown.csv").read_text()

        sure = cli("run", "t.d3run/unknown.csv", "--retry-unknown", "--yes", env=d3.env)
        assert sure.code == 0, sure.err
        assert created(d3) == {"drop-after a": 1, "b": 1, "a again": 1}


def test_settle_takes_the_file_that_was_written(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", task("b"), task("drop-after a"))
    with running(rate=None, faults=lost) as d3:
        cli("run", "t.csv", env=d3.env)
    settled = cli("settle", "t.d3run", "ok", "--from", "t.d3run/unknown.csv")
    assert settled.code == 0, settled.err
    assert outcomes(tmp_path / "t.d3run") == [("b", "ok"), ("drop-after a", "ok")]


def test_of_a_partial_row_only_what_failed_is_sent_and_replaced(cli: Cli, tmp_path: Path) -> None:
    with running(rate=None, links=[("1-1", "2-1"), ("1-1", "2-4")], missing=["2-8", "2-9"]) as d3:
        (tmp_path / "u.csv").write_text("source,linked\n1-1,2-1;2-8;2-9;2-5\n")
        folder = tmp_path / "u.d3run"
        first = cli("run", "u.csv", env=d3.env)
        assert first.code == 1, first.err
        assert [row["linked"] for row in rows_of(folder / "failed.csv")] == ["2-8;2-9"]
        mend(folder / "failed.csv", "2-9", "2-4")

        second = cli("run", "u.d3run/failed.csv", env=d3.env)

        assert second.code == 1, second.err
        items = {row["_item"]: (row["_outcome"], row["_code"]) for row in rows_of(folder / "items.csv")}
        assert {item: outcome for item, (outcome, _) in items.items()} == {
            "2-1": "ok", "2-8": "failed", "2-5": "failed", "2-4": "ok",
        }  # fmt: skip
        assert items["2-5"][1] == "not_linked"
        assert rows_of(folder / "results.csv")[0]["linked"] == "2-1;2-8;2-5;2-4"
        assert [row["linked"] for row in rows_of(folder / "failed-2.csv")] == ["2-8"]

        mend(folder / "failed-2.csv", "1-1", "1-2")
        refused = cli("run", "u.d3run/failed-2.csv", env=d3.env)
        assert refused.code == 2, refused.err
        assert "is done in part" in refused.err
