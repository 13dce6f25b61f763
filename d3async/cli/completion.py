"""`d3async completion SHELL`: the script that makes a shell complete commands and options."""

from __future__ import annotations

import os

import click
from click.shell_completion import (
    CompletionItem,
    ShellComplete,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

from d3async.cli.console import out, say

_VARIABLE = "_D3ASYNC_COMPLETE"
_WHERE = {
    "bash": "To load it in every new shell: echo 'eval \"$(d3async completion bash)\"' >> ~/.bashrc",
    "zsh": "To load it in every new shell: echo 'eval \"$(d3async completion zsh)\"' >> ~/.zshrc",
    "fish": "To load it in every new shell: d3async completion fish > ~/.config/fish/completions/d3async.fish",
    "powershell": "To load it in every new shell: d3async completion powershell >> $PROFILE",
}
_POWERSHELL = """\
Register-ArgumentCompleter -Native -CommandName d3async -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $env:%(complete_var)s = "powershell_complete"
    $env:COMP_WORDS = $commandAst.ToString()
    $env:COMP_CWORD = $wordToComplete
    d3async | ForEach-Object {
        [System.Management.Automation.CompletionResult]::new($_, $_, "ParameterValue", $_)
    }
    Remove-Item Env:%(complete_var)s, Env:COMP_WORDS, Env:COMP_CWORD
}
"""


class PowerShellComplete(ShellComplete):
    """Completion for PowerShell, which click does not bring: one candidate a line.

    COMP_WORDS is the whole command as typed, COMP_CWORD the word that is being completed.
    """

    name = "powershell"
    source_template = _POWERSHELL

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one that is being completed, without the program's name, and that one."""
        words = split_arg_string(os.environ.get("COMP_WORDS", ""))[1:]
        incomplete = os.environ.get("COMP_CWORD", "")
        if incomplete and words and words[-1] == incomplete:
            words.pop()
        return words, incomplete

    def format_completion(self, item: CompletionItem) -> str:
        """The candidate alone."""
        return str(item.value)


def add_powershell() -> None:
    """Have click know PowerShell, for the script and for the calls that it makes."""
    add_completion_class(PowerShellComplete)


@click.command("completion")
@click.argument("shell", type=click.Choice(sorted(_WHERE)))
@click.pass_context
def completion_command(ctx: click.Context, shell: str) -> int:
    """Print the script that makes SHELL complete commands and options of d3async."""
    add_powershell()
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"There is no completion for {shell}.")
    complete = kind(ctx.find_root().command, {}, "d3async", _VARIABLE)
    out((complete.source_template % complete.source_vars()).rstrip())
    say(_WHERE[shell])
    return 0
