"""A user who types any suggested command, edits files as users do and is hit by faults gets no task twice.

And no row is lost, every command ends with a code of the README's table, and suggestions come to an end.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.end_to_end.fork_server import Commands
from tests.end_to_end.ground import Site, running
from tests.end_to_end.job_files import DATES, JobFile, LinkRow, TaskRow, Trouble
from tests.end_to_end.typist import suggested
from tests.end_to_end.user import EVENTS, FAULTS, User

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

CHANCE = st.randoms(use_true_random=True)
"""Details of a step: drawn with weights of their own, and seeded by hypothesis."""
TROUBLES: list[Trouble] = ["", "", "", "", "nowhere", "nowhere", "no assignee"]


def happenings(chance: Random) -> list[str | None]:
    """What happens request by request: nothing, some faults, or an event after some requests."""
    kind = chance.random()
    if kind < 0.4:
        return []
    faults = [chance.choice([None, *FAULTS]) for _ in range(chance.randint(1, 4))]
    if kind < 0.65:
        return [*faults]
    return [*(None for _ in range(chance.randint(0, 3))), chance.choice(EVENTS)]


class ObedientUser(RuleBasedStateMachine):
    """Histories of one user, in a folder of his own, at a D3 that all histories share."""

    commands: Commands
    site: Site

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="user-"))
        (self.home / "tmp").mkdir()
        self.site.url.reset()

    @initialize(chance=CHANCE)
    def begin(self, chance: Random) -> None:
        self.numbers, self.row = 0, LinkRow if chance.random() < 0.15 else TaskRow
        self.has_id = chance.random() < 0.3
        rows = tuple(self.new_row(chance) for _ in range(chance.randint(1, 6)))
        self.user = User(self.commands, self.site, self.home, JobFile(self.home / "t.csv", rows))
        self.user.file.save()
        self.user.run(*self.options(chance), script=happenings(chance))

    def new_row(self, chance: Random) -> TaskRow | LinkRow:
        self.numbers += 1
        trouble = chance.choice(TROUBLES)
        return self.row(self.numbers, "" if self.row is LinkRow and trouble == "no assignee" else trouble)

    def options(self, chance: Random) -> list[str]:
        """Options as a user gives them, now and then one more or one less than before."""
        chances = {
            ("--id-column", "key"): 0.85 if self.has_id else 0.1,
            ("--skip-invalid",): 0.7,
            ("--limit", "2"): 0.25,
            ("--halt", "failed=1"): 0.1,
            ("--time-zone", "Europe/Berlin", "--server-time-zone", "Asia/Shanghai"): 0.07,
        }
        return [word for words, share in chances.items() if chance.random() < share for word in words]

    @rule(chance=CHANCE)
    def run_the_file(self, chance: Random) -> None:
        self.user.run(*self.options(chance), script=happenings(chance))

    @rule(chance=CHANCE)
    def edit_the_file_and_run_it(self, chance: Random) -> None:
        for _ in range(chance.randint(1, 2)):
            self.edit(chance)
        self.user.run(*self.options(chance), script=happenings(chance))

    def edit(self, chance: Random) -> None:
        file = self.user.file
        rows, form = list(file.rows), file.form
        match chance.choice(["sort", "delete", "mend", "append", "dates", "other name"]):
            case "sort":
                chance.shuffle(rows)
            case "delete" if len(rows) > 1:
                rows.remove(chance.choice(rows))
            case "mend":
                rows = list(file.mended().rows)
            case "append":
                rows.append(self.new_row(chance))
            case "dates":
                form = chance.choice(DATES)
            case "other name":
                self.numbers += 1
                self.user.save_as(f"v{self.numbers}.csv")
        self.user.edit(replace(self.user.file, rows=tuple(rows), form=form))

    @precondition(lambda self: suggested(self.user.screen))
    @rule(chance=CHANCE)
    def type_a_suggested_command(self, chance: Random) -> None:
        self.user.type(*chance.choice(suggested(self.user.screen)), script=happenings(chance))

    @precondition(lambda self: suggested(self.user.screen))
    @rule()
    def type_whatever_is_suggested(self) -> None:
        self.user.obeys()

    @precondition(lambda self: self.user.feedback_files())
    @rule(chance=CHANCE)
    def mend_a_feedback_file_and_run_it(self, chance: Random) -> None:
        thin, turn = chance.random() < 0.3, chance.random() < 0.3
        self.user.mend_feedback(thin=thin, turn=turn, script=happenings(chance))

    @precondition(lambda self: self.user.has_run())
    @rule(gone=st.sampled_from([False, False, True]))
    def move_or_delete_the_folder(self, gone: bool) -> None:
        if gone:
            self.user.delete_folder()
        else:
            self.user.move_folder()

    @rule(chance=CHANCE)
    def mean_rows_that_look_alike(self, chance: Random) -> None:
        fresh = ["--fresh"] if chance.random() < 0.4 else []
        self.user.means("--allow-similar", "all", *fresh, *self.options(chance), script=happenings(chance))

    @rule(chance=CHANCE)
    def mean_identical_rows(self, chance: Random) -> None:
        self.user.edit(replace(self.user.file, copies=1))
        self.user.means_copies(*self.options(chance), script=happenings(chance))

    @precondition(lambda self: self.user.unknown())
    @rule(chance=CHANCE)
    def retry_unknown_rows(self, chance: Random) -> None:
        self.user.retry_unknown(happenings(chance))

    @precondition(lambda self: self.user.unknown())
    @rule(verdict=st.sampled_from(["ok", "failed"]))
    def settle_unknown_rows(self, verdict: str) -> None:
        self.user.settle(verdict)

    def teardown(self) -> None:
        try:
            if hasattr(self, "user"):
                self.user.obeys()
                if self.user.has_run():
                    self.user.status()
                    self.user.obeys()
        finally:
            shutil.rmtree(self.home, ignore_errors=True)


@contextmanager
def histories() -> Iterator[type[ObedientUser]]:
    """The histories, at a sandbox that is running."""
    with running(rate=None, hang_for=1.0) as site, Commands() as commands:

        class Histories(ObedientUser):
            pass

        Histories.commands, Histories.site = commands, site
        yield Histories


def go_through(count: int, steps: int) -> None:
    with histories() as machine:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=count,
                stateful_step_count=steps,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.explicit, Phase.generate],
            ),
        )


def test_whatever_is_suggested_may_be_typed() -> None:
    go_through(25, 10)


@pytest.mark.slow
def test_whatever_is_suggested_may_be_typed_in_many_long_histories() -> None:
    go_through(300, 14)
