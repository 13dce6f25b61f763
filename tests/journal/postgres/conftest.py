"""One database for a file of tests; each takes runs of its own in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.journal.postgres.ground import Fleet, FleetPlace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.database import Postgres


@pytest.fixture(scope="module")
def fleet(postgres: Postgres) -> Iterator[Fleet]:
    with Fleet(postgres.database()) as found:
        yield found


@pytest.fixture
def place(fleet: Fleet) -> FleetPlace:
    return FleetPlace(fleet)
