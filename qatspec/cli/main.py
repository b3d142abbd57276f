"""`qatspec`: the group of commands, and what every end of one means (rule: exit codes)."""

from __future__ import annotations

import gc
import importlib
import io
import os
import shlex
import sys
import traceback
from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem, shell_complete

from qatspec import __version__
from qatspec.cli.completion import COMPLETE
from qatspec.cli.examples import EXAMPLES
from qatspec.cli.output import (
    ARGUMENTS,
    HELP,
    common_options,
    echo,
    settings,
    show,
    show_unwritten,
    write_document,
)
from qatspec.cli.streams import ReaderGoneError, own_stdout
from qatspec.diag import Diagnostic, DiagnosticError, PluginFault, Span
from qatspec.diag.codes import QS008, QS946, QS947
from qatspec.diag.words import suggest
from qatspec.files import how_to_read, why_unreadable
from qatspec.process.interrupt import Interrupted, handled

#: name -> (module that has `command`, what it does); modules are imported when they are called
COMMANDS: dict[str, tuple[str, str]] = {
    "new": ("qatspec.cli.new", "Write a spec to start from."),
    "import-hat": ("qatspec.cli.import_hat", "Write the spec that a config of HAT amounts to."),
    "validate": ("qatspec.cli.validate", "Check specs without running them."),
    "show": ("qatspec.cli.show", "Print a spec merged, resolved and with its defaults."),
    "plan": ("qatspec.cli.plan", "Show the steps of a spec: run, cached or changed."),
    "diff": ("qatspec.cli.diff", "Compare two specs by meaning, or two compiled files."),
    "migrate": ("qatspec.cli.migrate", "Bring a spec to the newest version of the language."),
    "explain": ("qatspec.cli.explain", "Explain a diagnostic code, or who decides a module."),
    "check": ("qatspec.cli.check", "Build and prepare the model, and report what to look at."),
    "run": ("qatspec.cli.run", "Run a spec: train, convert, compile, evaluate."),
    "convert": ("qatspec.cli.convert", "Convert and compile a QAT checkpoint."),
    "eval": ("qatspec.cli.eval", "Evaluate the result of a stage."),
    "infer": ("qatspec.cli.infer", "Run a model, Program or binary on images."),
    "compare": ("qatspec.cli.compare", "Compare float, fake-quant and integers layer by layer."),
    "sensitivity": ("qatspec.cli.sensitivity", "Rank modules by the harm of quantizing them."),
    "report": ("qatspec.cli.report", "Show what a work directory holds."),
    "perf": ("qatspec.cli.perf", "Model latency, traffic and memory on the chips."),
    "advise": ("qatspec.cli.advise", "Find changes that make a network faster on the chip."),
    "disasm": ("qatspec.cli.disasm", "Print the commands of a compiled file, or compare two."),
    "schema": ("qatspec.cli.schema", "Write the JSON Schema of specs, for editors."),
    "plugins": ("qatspec.cli.plugins", "List installed plugins and what they register."),
    "completion": ("qatspec.cli.completion", "Print the script for completion in a shell."),
}

OK, DIAGNOSTICS, USAGE, PLUGIN, INTERNAL, INTERRUPTED = 0, 1, 2, 3, 4, 130


class _Commands(click.Group):
    """Commands by name; each one's module is imported when it is called."""

    def get_help_option(self, ctx: click.Context) -> click.Option:
        return HELP

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return _with_common_options(command, cmd_name)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands and options that begin so; modules of commands are not imported for it."""
        names = [
            CompletionItem(name, help=words)
            for name, (_, words) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name and name not in COMMANDS:
            raise click.UsageError(f"no such command `{name}`; {suggest(name, list(COMMANDS))}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in COMMANDS.items()])


def _with_common_options(command: click.Command, path: str) -> click.Command:
    """The command (and those below it) with --help and the common options, and with its examples at
    the end of its help."""
    command.get_help_option = lambda ctx: HELP  # type: ignore[method-assign]
    if path in EXAMPLES:
        command.epilog = "\b\nExamples:\n" + "".join(f"  {line}\n" for line in EXAMPLES[path])
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            _with_common_options(child, f"{path} {name}")
    elif not any("--debug" in param.opts for param in command.params):
        command.params.extend(common_options())
    return command


def _show_version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        echo(f"qatspec {__version__}")
        context.exit()


_VERSION = click.Option(
    ["--version"],
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)


@click.group(
    cls=_Commands,
    params=[_VERSION, *common_options()],
)
def cli() -> None:
    """Declarative quantization-aware training for edge chips.

    Write a YAML spec, then `qatspec run SPEC`: float, calibration, qat, convert, compile.
    """


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 ok, 1 diagnostics, 2 usage, 3 a plugin's fault, 4 ours,
    128 + the signal's number where one interrupted it (130 for Ctrl-C)."""
    # A full collection of garbage walks through all objects of torch, and importing them sets off
    # seven (a tenth of the CPU time of `check`). Young objects are collected as often as before.
    gc.set_threshold(700, 10, 100)
    sys.exit(run(args))


def run(args: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    What plugins and libraries print on the way goes to stderr.
    """
    if asked := os.environ.get(COMPLETE):  # by the script of `qatspec completion`
        return shell_complete(cli, {}, "qatspec", COMPLETE, asked)
    arguments = list(sys.argv[1:] if args is None else args)
    # torch reads it when it is imported: its own remarks on data-parallel training help no user.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    with own_stdout() as out:
        try:
            code = _run(arguments)
            out.flush()
        except ReaderGoneError:
            return DIAGNOSTICS
    if out.failure is None:
        return code
    show_unwritten(out.failure)
    return code or DIAGNOSTICS


def _run(arguments: list[str]) -> int:
    try:
        context = cli.make_context("qatspec", list(arguments))
    except (click.exceptions.Exit, click.ClickException) as error:
        return _end(error)
    context.meta[ARGUMENTS] = arguments
    with context:
        try:
            # torch's launcher stops the other processes when the first one has ended
            with handled(ending="TORCHELASTIC_RUN_ID" in os.environ):
                cli.invoke(context)
        except Interrupted as error:
            code = _interrupted(error, arguments)
            write_document()
            return code
        except BaseException as error:  # noqa: BLE001  every end of a command has its exit code
            code = _end(error)
            # help, a usage error, or the end of another process: no diagnostics are missing
            write_document(ended=not isinstance(error, click.exceptions.Exit | click.UsageError))
            return code
        write_document()
        chosen = settings()
        return DIAGNOSTICS if chosen.strict and chosen.warned else OK


def _end(error: BaseException) -> int:
    """Report what ended the command, and return its exit code."""
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, click.Abort | KeyboardInterrupt):
        echo("interrupted", err=True)
        return INTERRUPTED
    if isinstance(error, click.ClickException):
        usage = io.StringIO()
        error.show(usage)
        echo(usage.getvalue(), err=True, nl=False)
        return USAGE
    if isinstance(error, ReaderGoneError):
        raise error
    if settings().debug:
        traced = "".join(traceback.format_exception(error))
        echo(traced, err=True, nl=False, wrap=False)
    if isinstance(error, DiagnosticError):
        show(error.diagnostics, error.texts)
        return PLUGIN if any(_of_plugin(d) for d in error.diagnostics) else DIAGNOSTICS
    if isinstance(error, PluginFault):
        show([error.diagnostic()])
        return PLUGIN
    from qatspec.registry import registry  # plugins are found when something needs them

    fault = registry().plugin_fault(error)
    if fault is not None:
        show([fault.diagnostic()])
        return PLUGIN
    if (refused := _of_the_system(error)) is not None:
        show([refused])
        return DIAGNOSTICS
    words = str(error).partition("\n")[0] or type(error).__name__
    echo(f"internal error: {type(error).__name__}: {words}", err=True)
    if not settings().debug:
        echo("this is a fault of qatspec; --debug shows the traceback", err=True)
    return INTERNAL


def _interrupted(error: Interrupted, arguments: Sequence[str]) -> int:
    """Report where a signal stopped the command, what is saved and how to go on."""
    where = f" in stage {error.stage}" if error.stage else ""
    where += f" after {error.progress}" if error.progress else ""
    echo(f"interrupted by {error.name}{where}", err=True)
    if error.saved:
        echo(f"saved: {error.saved}", err=True)
    if error.stage:
        echo(f"to resume: {shlex.join(['qatspec', *arguments])}", err=True, wrap=False)
    return error.exit_code


def _of_the_system(error: BaseException) -> Diagnostic | None:
    """What the operating system refused: memory, or a file that a path names."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return QS946.diagnostic(
            f"there is not enough memory: {str(error).partition(chr(10))[0]}".rstrip(": "),
            help="lower `batch_size`, `workers` or the input's size, or use another device",
        )
    if isinstance(error, OSError) and error.errno is not None:
        named = isinstance(error.filename, str | bytes)
        path = os.fsdecode(error.filename) if named else ""
        return QS947.diagnostic(
            f"the system refused {f'`{path}`' if named else 'a file'}: {why_unreadable(error)}",
            help=how_to_read(
                error, "correct the path, its permissions or its disk, and run the command again"
            ),
            span=Span(path) if named else None,
        )
    return None


def _of_plugin(diagnostic: Diagnostic) -> bool:
    """Return whether a plugin caused the diagnostic: codes QS0xx with an origin, except QS008."""
    return (
        diagnostic.code.startswith("QS0")
        and diagnostic.code != QS008
        and diagnostic.origin is not None
    )
