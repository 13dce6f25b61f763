"""`d3async --help` lists every subcommand and loads none of them."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from d3async import __version__
from d3async.cli.main import ABOUT, cli

_LOADED = """
import sys
from d3async.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
sys.exit(repr({"aiohttp", "pydantic", "rich", "sqlite3"} & set(sys.modules)))
"""


def test_the_help_names_each_subcommand_with_what_it_does() -> None:
    shown = " ".join(CliRunner().invoke(cli, ["--help"], prog_name="d3async", env={"COLUMNS": "80"}).output.split())

    assert shown.startswith("Usage: d3async [OPTIONS] COMMAND [ARGS]...")
    assert all(f"{name} {about}" in shown for name, about in ABOUT.items())


def test_the_version_is_the_package_s() -> None:
    assert CliRunner().invoke(cli, ["--version"]).output == f"d3async {__version__}\n"


@pytest.mark.parametrize("asked", ["--help", "-h", "--version"])
def test_asking_for_help_loads_nothing_that_runs_commands(asked: str) -> None:
    done = subprocess.run([sys.executable, "-c", _LOADED, asked], capture_output=True, text=True, check=False)

    assert done.stderr.strip() == "set()"
    assert "d3async" in done.stdout
