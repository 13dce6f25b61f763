"""The command line: its subcommands, and the line and exit code that any exception becomes."""

from __future__ import annotations

import importlib
import os
import sys

import click

from d3async import __version__
from d3async.cli.console import say
from d3async.errors import (
    ConservationError,
    D3Error,
    NotSentError,
    RefusedError,
    ThrottledError,
    UnauthorizedError,
    UnknownOutcomeError,
)
from d3async.policy.halt_and_exit_codes import (
    INTERNAL,
    INTERRUPTED,
    SOME_FAILED,
    SOME_UNKNOWN,
    STOPPED,
    THROTTLED,
    USAGE,
)

SUMMARY = "Bulk task creation and link removal for D3 SOAR, with an honest outcome for every row."
EPILOG = "Settings come from options, D3_* variables and a profile; `d3async doctor` shows them."
ABOUT = {
    "run": "Bring D3 to what a job file says; safe to repeat.",
    "check": "Check a job file; sends nothing.",
    "status": "What a run folder says, and what to type next.",
    "results": "Write a run folder's results again.",
    "report": "Write a run folder's report.html again.",
    "reconcile": "Look up unknown rows in D3 and settle those it can prove.",
    "settle": "Say what became of unknown rows that you looked up yourself.",
    "submit": "Put job files into a fleet's database.",
    "worker": "Send what was submitted to a fleet.",
    "cancel": "Stop a run of a fleet.",
    "web": "The same work in a browser, on this machine.",
    "template": "An empty job file with the right header.",
    "call": "One D3 command; prints the answer as JSON.",
    "doctor": "Check settings, network, key, clock and shared limit.",
    "sandbox": "A local D3 look-alike to try against.",
    "demo": "Run the samples against the sandbox.",
    "login": "Put a key into the system keyring.",
    "logout": "Take a key out of the system keyring.",
    "completion": "Print the completion script of a shell.",
}

_FILES = {
    "call": "call_and_template",
    "cancel": "submit_worker_cancel",
    "check": "run_and_check",
    "demo": "sandbox",
    "doctor": "doctor_and_login",
    "login": "doctor_and_login",
    "logout": "doctor_and_login",
    "reconcile": "reconcile_and_settle",
    "report": "status_and_results",
    "results": "status_and_results",
    "run": "run_and_check",
    "settle": "reconcile_and_settle",
    "status": "status_and_results",
    "submit": "submit_worker_cancel",
    "template": "call_and_template",
    "web": "sandbox",
    "worker": "submit_worker_cancel",
}
"""Subcommands that share a file with another."""
_CODES: tuple[tuple[type[D3Error], int], ...] = (
    (ConservationError, INTERNAL),
    (UnauthorizedError, STOPPED),
    (NotSentError, STOPPED),
    (RefusedError, SOME_FAILED),
    (UnknownOutcomeError, SOME_UNKNOWN),
    (ThrottledError, THROTTLED),
)
"""Where several fit, the first counts."""


class _Commands(click.Group):
    """Subcommands imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(ABOUT)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        if cmd_name not in ABOUT:
            return None
        module = importlib.import_module(f"d3async.cli.{_FILES.get(cmd_name, cmd_name)}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in ABOUT and not args[0].startswith("-"):
            from difflib import get_close_matches  # noqa: PLC0415 - for a mistyped command only

            near = get_close_matches(args[0], ABOUT, n=1)
            meant = f" Did you mean {near[0]}?" if near else ""
            ctx.fail(f'There is no command "{args[0]}".{meant}')
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        with formatter.section("Commands"):
            formatter.write_dl(list(ABOUT.items()))


@click.command(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=EPILOG,
    help=SUMMARY,
)
@click.version_option(__version__, "-V", "--version", prog_name="d3async", message="%(prog)s %(version)s")
def cli() -> None:
    """List the subcommands."""


def main() -> None:
    """Run the command line and exit with the code the README lists."""
    if os.environ.get("_D3ASYNC_COMPLETE", "").startswith("powershell"):
        importlib.import_module("d3async.cli.completion").add_powershell()
    sys.exit(exit_code_of(cli))


def exit_code_of(command: click.Command, args: list[str] | None = None) -> int:
    """Run *command* and say in one line what stopped it, if anything did.

    What no code foresaw is 70, and raised where D3_DEBUG is 1.
    """
    try:
        result = command.main(args=args, prog_name="d3async", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except click.ClickException as error:
        _say_usage(error)
        return USAGE
    except D3Error as error:
        say(f"d3async: {error.message}")
        return next((code for kind, code in _CODES if isinstance(error, kind)), USAGE)
    except BrokenPipeError:
        return 141
    except Exception as error:
        if os.environ.get("D3_DEBUG") == "1":
            raise
        say(_internal(error))
        result = INTERNAL
    return result if isinstance(result, int) else 0


def _say_usage(error: click.ClickException) -> None:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        say(error.format_message())
        return
    say(f"d3async: {error.format_message()}")
    if isinstance(error, click.UsageError) and error.ctx is not None:
        say(f"help: {error.ctx.command_path} --help")


def _internal(error: Exception) -> str:
    """One line about a defect of ours: its kind and place. Its text is left out, as it may hold a secret."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        if module.startswith("d3async"):
            place = f" in {module}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return (
        f"d3async: internal error: {type(error).__name__}{place}. This is a defect of d3async: please report this line."
        " What is known of rows is in the run folder; D3_DEBUG=1 shows more, maybe also secrets."
    )
