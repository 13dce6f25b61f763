"""`d3async check FILE`: everything that is wrong with a job file, at once, through the code that `run` uses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from d3async.cli.jobfile import allow_similar_option, job_file_options, save_mapping_option
from d3async.cli.settings_options import settings_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from d3async.cli.jobfile import JobFileOptions


@click.command("check")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Where errors.csv is written.")
@job_file_options
@settings_options
@save_mapping_option
@allow_similar_option
@click.option("--against-d3", is_flag=True, help="Read the present links of the sources; name those not there.")
@click.option("--json", "as_json", is_flag=True, help="Everything found as JSON on stdout.")
def command(file: Path, job_file: JobFileOptions, options: Mapping[str, Any], **given: Any) -> int:
    """Check FILE as `run` does, and send nothing. `-` reads stdin. Needs no settings but for --against-d3.

    A profile that rows name must be one of config.toml, with all it takes to send them, its key included.

    \b
    Exit codes: 0 every row can be sent · 2 the file or an option cannot be used, or rows look like
    rows sent before · 3 rows are invalid
    """  # noqa: D301 - the \\b is click's mark for lines that are not re-flowed
    from d3async.cli.checking import Options, check  # noqa: PLC0415 - `--help` need not load what reads files

    return check(file, job_file, Options(settings=options, **given))
