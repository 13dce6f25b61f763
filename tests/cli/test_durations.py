"""An option that is a duration takes units, and says what would be right."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from d3async.cli.options import DURATION


@click.command()
@click.option("--wait", type=DURATION, default="5m")
def waiting(wait: float) -> None:
    click.echo(wait)


@pytest.mark.parametrize(
    ("given", "expected"),
    [([], "300.0"), (["--wait", "30s"], "30.0"), (["--wait", "1h30m"], "5400.0"), (["--wait", "500ms"], "0.5")],
)
def test_a_duration_is_seconds(given: list[str], expected: str) -> None:
    assert CliRunner().invoke(waiting, given).output.strip() == expected


@pytest.mark.parametrize("text", ["soon", "5 minutes", "-5", "nan", ""])
def test_what_is_no_duration_is_a_usage_error_with_a_cure(text: str) -> None:
    result = CliRunner().invoke(waiting, ["--wait", text])

    assert result.exit_code == 2
    assert "Invalid value for '--wait'" in result.output
