"""`qatspec completion`: the script with which a shell completes commands, options and paths."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from qatspec.cli.output import write_product

#: The variable of the environment by which the shell's script asks for completions.
COMPLETE = "_QATSPEC_COMPLETE"
SHELLS = ("bash", "zsh", "fish")


@click.command(name="completion", short_help="Print the script for completion in a shell.")
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print the script with which SHELL completes commands, options, choices and paths.

    \b
    bash: add to ~/.bashrc
        eval "$(qatspec completion bash)"
    zsh: add to ~/.zshrc, after compinit
        eval "$(qatspec completion zsh)"
    fish: run once
        qatspec completion fish > ~/.config/fish/completions/qatspec.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    completion = kind(click.Command("qatspec"), {}, "qatspec", COMPLETE)
    script = kind.source_template % completion.source_vars()
    if shell == "fish":  # click's script cuts descriptions and files' names at their first comma
        script = script.replace('string split ","', 'string split -m 1 ","')
    write_product(script + "\n")
