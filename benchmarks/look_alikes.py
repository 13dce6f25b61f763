"""Looking for look-alikes must hardly be noticed: a re-run of a finished file with one more row, with it and without.

The folder's rows are done, the index of what this user has sent holds as many rows again, sent from another folder to
the same D3. Each run sends one row that was added since the last one. Without is `--allow-similar all`.
"""

from __future__ import annotations

import json
import time
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import jobs
from benchmarks.harness import Line, Scale, Spent, alternate, folder, median, medians, ratios, spend
from benchmarks.stub import stub
from d3async.journal.model import Selection
from d3async.journal.sent_index import IndexedRow, SentIndex, server_digest
from d3async.journal.sqlite.run_folder import open_folder
from d3async.operations.job_file import open_job_file
from d3async.operations.mapping import JobFileOptions

if TYPE_CHECKING:
    from pathlib import Path

_TEXT = "Ask whether the sign-in from abroad was theirs"


def measure(scale: Scale) -> list[Line]:
    size = scale.of(1_000_000, 2_000)
    with folder() as place, stub() as server:
        file = jobs.write_tasks(place / "tasks.csv", size)
        finish(file, server.url)
        fill(place / "state" / "d3async" / "sent.sqlite", server.url, size)
        run = partial(_one_more, file, server.url, place / "state")
        run()
        pairs = alternate(run, partial(run, "--allow-similar", "all"), scale.rounds)
        told = json.loads((file.with_suffix(".d3run") / "summary.json").read_text(encoding="utf-8"))
    if told["requests"] != 1 or told["outcomes"]["ok"] != told["input"]["rows"]:
        raise RuntimeError(f"{told['requests']} requests: {told['outcomes']}")
    mine, other = medians(pairs, lambda spent: spent.wall)
    spread = ratios(pairs, lambda spent: spent.wall)
    ratio = median(spread)
    cpu = median(ratios(pairs, lambda spent: spent.cpu))
    return [
        Line(
            f"re-run of {size:,} finished rows and a new one, look-alikes looked for", "not looked for",
            f"{mine:.1f} s", f"{other:.1f} s", ratio, "<= 1.10 x", "1.02 x", ratio <= 1.10, spread,
            {"ratio_of_cpu": round(cpu, 3)},
        )
    ]  # fmt: skip


def finish(file: Path, url: str) -> None:
    """The run folder of *file* as a run that sent all of it would leave it."""
    held = open_folder(file.with_suffix(".d3run"))
    with open_job_file(file, JobFileOptions(), site=jobs.SITE, now=datetime.now(UTC), need_site=True) as examined:
        stage = held.stage()
        stage.add(examined)
        form, header = json.dumps(examined.format.to_json()), json.dumps(examined.table.header)
        facts = {"base_url": url, "site": jobs.SITE, "command": "CreateTask", "input": file.name, "sha256": ""}
        held.adopt({**facts, "format": form, "header": header, "rows": str(stage.rows)})
    held.begin(Selection(), now=time.time(), facts={})
    held.db.execute(
        "update job set state = 'ok', todo = 0, lane = null, attempts = 1, http = 200, sent_at = 1, done_at = 2"
    )
    stage.close()
    held.commit()
    held.finish(now=time.time(), exit_code=0, facts={})
    held.close()


def fill(index: Path, url: str, rows: int) -> None:
    """An index that knows *rows* rows sent from elsewhere; digests are as good as random numbers."""
    step = (1 << 63) // rows * 2 - 1
    entries = (IndexedRow(-(1 << 63) + n * step, n, 4_000_000_000 + n, n) for n in range(rows))
    with closing(SentIndex(index)) as held, held.alone():
        held.enter(server_digest(url), "another", index.parent / "gone.d3run", entries)


def _one_more(file: Path, url: str, state: Path, *options: str) -> Spent:
    with file.open("a+", encoding="utf-8", newline="") as rows:
        size = rows.tell()
        rows.write(f"20300101-{size},Call again,Default,{_TEXT},user1,2099-02-01 11:00:00,No\n")
    command = jobs.command(file, "--rate", jobs.UNLIMITED, *options)
    return spend(command, jobs.environment(url, XDG_STATE_HOME=str(state)))
