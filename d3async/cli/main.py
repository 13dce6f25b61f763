"""The command line: lists the subcommands. Its own `--help` and `--version` load nothing that runs them."""

from __future__ import annotations

import sys

from d3async import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from d3async.cli.group import cli, exit_code_of

__all__ = ["ABOUT", "EPILOG", "SUMMARY", "cli", "exit_code_of", "help_text", "main"]

SUMMARY = "Bulk task creation and link removal for D3 SOAR, with an honest outcome for every row."
EPILOG = "Settings come from options, D3_* variables and a profile; `d3async doctor` shows them."
ABOUT = {
    "run": "Bring D3 to what a job file says; safe to repeat.",
    "check": "Check a job file; sends nothing.",
    "status": "What a run folder says, and what to type next.",
    "results": "Write a run folder's results again.",
    "report": "Write a run folder's report.html again.",
    "reconcile": "Look up unknown rows in D3 and settle those it can prove.",
    "submit": "Put job files into a fleet's database.",
    "worker": "Send what was submitted to a fleet.",
    "cancel": "Stop a run of a fleet.",
    "template": "An empty job file with the right header.",
    "call": "One D3 command; prints the answer as JSON.",
    "doctor": "Check settings, network, key, clock and shared limit.",
    "sandbox": "A local D3 look-alike to try against.",
    "demo": "Run the samples against the sandbox.",
    "login": "Put a key into the system keyring.",
    "logout": "Take a key out of the system keyring.",
}


def main() -> None:
    """Run the command line and exit with the code the README lists."""
    asked = sys.argv[1:]
    if asked in (["--help"], ["-h"]):
        _print(help_text())
    elif asked == ["--version"]:
        _print(f"d3async {__version__}")
    else:
        from d3async.cli.group import cli, exit_code_of  # noqa: PLC0415 - click is most of what `--help` would cost

        sys.exit(exit_code_of(cli))


def help_text() -> str:
    """What click would print on a terminal of 80 columns."""
    width = max(map(len, ABOUT)) + 2
    commands = "\n".join(f"  {name:{width}}{about}" for name, about in ABOUT.items())
    return f"""\
Usage: d3async [OPTIONS] COMMAND [ARGS]...

{_wrapped(SUMMARY)}

Options:
  --version   Show the version and exit.
  -h, --help  Show this message and exit.

Commands:
{commands}

{_wrapped(EPILOG)}"""


def _wrapped(text: str) -> str:
    lines = [" "]
    for word in text.split():
        if len(lines[-1]) + 1 + len(word) > 78:  # noqa: PLR2004 - click's width on 80 columns
            lines.append(" ")
        lines[-1] += f" {word}"
    return "\n".join(lines)


def _print(text: str) -> None:
    from d3async.cli.console import out  # noqa: PLC0415 - not needed to run a command

    out(text)


def __getattr__(name: str) -> object:
    """`cli` and `exit_code_of`, which stand where click is loaded."""
    if name not in {"cli", "exit_code_of"}:
        raise AttributeError(name)
    from d3async.cli import group  # noqa: PLC0415 - as above

    return getattr(group, name)
