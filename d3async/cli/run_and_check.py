"""`d3async run FILE`: bring D3 to what the file says; `d3async check FILE`: everything that is wrong with it."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from d3async.cli.console import Terminal, out, say, say_all
from d3async.cli.options import (
    DURATION,
    allow_similar_option,
    halt_option,
    job_file_options,
    link_options,
    save_mapping_option,
    servers_from,
    settings_options,
)
from d3async.cli.progress import FileProgress, chosen
from d3async.cli.result_text import finished_lines
from d3async.files.suggestions import suggested_lines
from d3async.operations.plan_text import plan_lines
from d3async.policy.look_alikes import described, mentioned
from d3async.policy.next_step import Steps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from d3async.operations.check import CheckReport
    from d3async.operations.mapping import JobFileOptions
    from d3async.operations.observer import Progress
    from d3async.operations.plan import Plan
    from d3async.operations.run import RunResult


class RunTerminal(Terminal):
    """`operations.observer.RunObserver` on stderr. *progress* is the option; *yes* answers what may be answered so."""

    def __init__(
        self, *, progress: str = "auto", quiet: bool = False, yes: bool = False, state_file: Path | None = None
    ) -> None:
        super().__init__(quiet=quiet, yes=yes)
        self._state_file = state_file
        self._progress = progress

    def planned(self, plan: Plan) -> None:
        """See `RunObserver.planned`."""
        first, *others = plan_lines(plan)
        margin = " " * (len(plan.name) + 2)
        self.detail("\n".join([f"{plan.name}: {first}", *(margin + line for line in others)]))

    def request(self, request: Mapping[str, Any]) -> None:
        """See `RunObserver.request`."""
        out(json.dumps(request, ensure_ascii=False))

    def progress(self, rows: int) -> Progress:
        """See `RunObserver.progress`."""
        shown = chosen(self._progress, rows, quiet=self._quiet)
        return shown if self._state_file is None else FileProgress(shown, rows, self._state_file)


def show_result(result: RunResult, *, as_json: bool) -> None:
    """Print what the run came to; *as_json*: its summary on stdout too."""
    if result.finished is None:
        return
    say_all(finished_lines(result.finished, now=time.time()))
    if as_json:
        out(json.dumps(result.finished.summary, ensure_ascii=False))


@click.command("run")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="The run folder.")
@job_file_options
@settings_options
@save_mapping_option
@link_options
@halt_option
@allow_similar_option
@click.option(
    "--drain-timeout",
    type=DURATION,
    default="30s",
    show_default=True,
    metavar="D",
    help="How long requests in flight may take after Ctrl-C.",
)
@click.option("--mark-tasks", is_flag=True, help="Add a short reference to each description, for reconcile to find.")
@click.option("--verify", is_flag=True, help="Read the links back afterwards; those still there are failed.")
@click.option("--retry-unknown", is_flag=True, help="Send unknown rows again: they may then exist twice.")
@click.option("--fresh", is_flag=True, help="A new run; the old run folder is moved aside. Its rows are sent again.")
@click.option("--continue", "continues", is_flag=True, help="Only if the run folder is there already.")
@click.option("--dry-run", is_flag=True, help="Print the requests; send nothing.")
@click.option("--plan", metavar="DIGEST", help="Send only if the plan is still the one with this digest.")
@click.option(
    "--progress", type=click.Choice(["auto", "bar", "plain", "json", "none"]), default="auto", show_default=True
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but the last lines.")
@click.option("-v", "--verbose", is_flag=True, help="Log every attempt.")
@click.option("--json", "as_json", is_flag=True, help="The summary, and nothing else, on stdout.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def run_command(file: Path, job_file: JobFileOptions, options: Mapping[str, Any], **given: Any) -> int:
    """Bring D3 to what FILE says: create its tasks, remove its links. `-` reads stdin.

    Safe to repeat: rows that are done are never sent again, unknown rows are never sent again by
    themselves. After a crash, a Ctrl-C, an expired key or a mended row, run it again.

    A column `profile` sends each row to the D3 of that profile of config.toml, all at the same time, each with its own
    keys and its own limit; a D3 that fails ends its own rows and no others.

    \b
    Exit codes: 0 every row ok · 1 some failed · 2 usage or settings · 3 invalid rows, nothing sent ·
    4 some unknown · 5 stopped early · 6 D3 asked for too long a pause · 130/143 interrupted
    """  # noqa: D301 - the \\b is click's mark for lines that are not re-flowed
    from d3async.cli.console import collect_rarely, signals  # noqa: PLC0415 - as above
    from d3async.operations.run import RunOptions, default_folder, run  # noqa: PLC0415 - `--help` need not load the engine
    from d3async.operations.status import progress_file  # noqa: PLC0415 - as above

    as_json = given.pop("as_json")
    state_file = None
    if given["plan"] is not None:
        state_file = progress_file(given["output"] or default_folder(file))
    terminal = RunTerminal(
        progress=given.pop("progress"), quiet=given.pop("quiet"), yes=given.pop("yes"), state_file=state_file
    )
    collect_rarely()
    result = run(file, job_file, servers_from(options), RunOptions(**given), terminal, stops=signals)
    show_result(result, as_json=as_json)
    return result.exit_code


@click.command("check")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Where errors.csv is written.")
@job_file_options
@settings_options
@save_mapping_option
@allow_similar_option
@click.option("--against-d3", is_flag=True, help="Read the present links of the sources; name those not there.")
@click.option("--json", "as_json", is_flag=True, help="Everything found as JSON on stdout.")
def check_command(file: Path, job_file: JobFileOptions, options: Mapping[str, Any], **given: Any) -> int:
    """Check FILE as `run` does, and send nothing. `-` reads stdin. Needs no settings but for --against-d3.

    A profile that rows name must be one of config.toml, with all it takes to send them, its key included.

    \b
    Exit codes: 0 every row can be sent · 2 the file or an option cannot be used, or rows look like
    rows sent before · 3 rows are invalid
    """  # noqa: D301 - the \\b is click's mark for lines that are not re-flowed
    from d3async.operations.check import CheckOptions, check, compare_with_d3  # noqa: PLC0415 - as above
    from d3async.operations.server_settings import Servers  # noqa: PLC0415 - as above

    as_json, against_d3 = given.pop("as_json"), given.pop("against_d3")
    terminal = Terminal(quiet=as_json)
    with check(file, job_file, CheckOptions(settings=options, lists_all=as_json, **given), terminal) as report:
        show_report(report, as_json=as_json, selected=bool(job_file.where or job_file.limit))
        if against_d3 and report.examined is not None and not report.review.invalid:
            compare_with_d3(report.examined, Servers(options), Terminal())
        for line in ending_lines(report):
            say(line)
        return report.exit_code


def show_report(report: CheckReport, *, as_json: bool, selected: bool) -> None:
    """Print what was found in a job file; *selected*: the rows that --where and --limit leave, too."""
    review = report.review
    say_all(report.lines)
    if as_json:
        _print_json(report)
    else:
        if counts := counts_text(report):
            say(f"  {counts}")
        if selected and report.examined is not None:
            say(f"  {review.selected:,} of them are selected")
        say_all(review.lines(sent=""))
    if report.unlisted:
        say("All of them: give -o DIR, or --json")
    elif report.errors is not None:
        say(f"All of them: {report.errors}")
    for line in mentioned(report.similar.other_day, report.similar.other_name):
        say(f"  {line}")


def ending_lines(report: CheckReport) -> list[str]:
    """What `run` would do next with the file, and the command that sends it."""
    if report.review.invalid:
        return []
    similar = report.similar
    if similar.count:
        return ["\n`run` would stop here:", *described(similar.pairs, similar.count, similar.lines)]
    if report.identical:
        file = report.send.arguments[2]
        option = "--allow-duplicates too: identical rows are meant only where that is said."
        return [f"Nothing is wrong. To send it, run {file} with {option}"]
    return [f"Nothing is wrong. To send it: {suggested_lines(Steps((report.send,)))[0].text}"]


def counts_text(report: CheckReport) -> str:
    """`3,113 tasks to create: 41 people, 212 incidents`; empty where no row can be sent."""
    examined, counts, review = report.examined, report.counts, report.review
    if examined is None or counts is None or not review.commands:
        return ""
    command = examined.command
    if command is None:
        return ", ".join(f"{count:,} {name}" for name, count in review.commands.items())
    count = counts.items if command.items else review.rows - review.invalid
    numbers = {
        name: (counts.subjects if at == command.subject else counts.people).count()
        for name, at in command.facets.items()
    }
    facets = [f"{number:,} {_singular(name) if number == 1 else name}" for name, number in numbers.items()]
    return f"{count:,} {command.nouns[count != 1]} to {command.verb}: {', '.join(facets)}"


def _singular(name: str) -> str:
    return "person" if name == "people" else name.removesuffix("s")


def _print_json(report: CheckReport) -> None:
    """One object, its problems a line each as they may be many."""
    review, similar, counts = report.review, report.similar, report.counts
    found: dict[str, Any] = {
        "file": report.name,
        "rows": review.rows,
        "invalid": review.invalid,
        "commands": review.commands,
        "warnings": [group.public() for group in review.warnings],
    }
    if report.examined is not None and counts is not None:
        found["format"] = report.examined.format.to_json()
        found["counts"] = {
            "subjects": counts.subjects.count(), "people": counts.people.count(), "items": counts.items,
        }  # fmt: skip
    found["similar"] = {
        "rows": similar.count,
        "lines": str(similar.lines),
        "pairs": [asdict(pair) for pair in similar.pairs],
        "other_day": similar.other_day,
        "other_name": similar.other_name,
    }
    out(json.dumps(found, ensure_ascii=False)[:-1] + ', "problems": [')
    comma = ""
    for problem in review.public():
        out(comma + json.dumps(problem, ensure_ascii=False))
        comma = ", "
    out("]}")
