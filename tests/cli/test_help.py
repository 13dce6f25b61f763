"""`d3async --help` is told at once, and is what click would tell."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from d3async import __version__
from d3async.cli.main import cli, help_text

_QUICK = """
import sys
from d3async.cli.main import main
main()
sys.exit(repr({"click", "aiohttp", "pydantic", "typing"} & set(sys.modules)))
"""


def test_the_help_is_click_s_own_on_a_terminal_of_eighty_columns() -> None:
    told = CliRunner().invoke(cli, ["--help"], prog_name="d3async", env={"COLUMNS": "80"}).output

    assert help_text() + "\n" == told


def test_the_version_is_click_s_own() -> None:
    assert CliRunner().invoke(cli, ["--version"]).output == f"d3async {__version__}\n"


@pytest.mark.parametrize("asked", ["--help", "-h", "--version"])
def test_asking_for_help_loads_nothing_that_runs_commands(asked: str) -> None:
    done = subprocess.run([sys.executable, "-c", _QUICK, asked], capture_output=True, text=True, check=False)

    assert done.stderr.strip() == "set()"
    assert done.stdout == (f"d3async {__version__}\n" if asked == "--version" else help_text() + "\n")
