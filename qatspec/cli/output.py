"""Output of commands: the options that all of them have, and diagnostics by one renderer."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qatspec.cli.streams import stdout, write
from qatspec.diag import Diagnostic
from qatspec.diag.codes import QS945
from qatspec.render import FORMATS, Format, clean, render
from qatspec.source import hide, hide_values

#: Key of click's `Context.meta` for the arguments of the command line.
ARGUMENTS = "qatspec.arguments"

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(slots=True)
class Settings:
    """Values of --format, --strict and --debug; `warned`: a warning was shown."""

    format: Format = "text"
    strict: bool = False
    debug: bool = False
    warned: bool = False


def settings() -> Settings:
    """The settings of the running command; the defaults outside of one."""
    context = click.get_current_context(silent=True)
    return context.find_root().ensure_object(Settings) if context else Settings()


def _keep(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value:
            setattr(context.find_root().ensure_object(Settings), name, value)

    return callback


def _show_help(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        write(context.get_help())
        context.exit()


#: click's own option prints to sys.stdout, which is not the command's (qatspec.cli.streams)
HELP = click.Option(
    ["-h", "--help"],
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_help,
    help="Show this message and exit.",
)


def common_options() -> list[click.Option]:
    """Options that are accepted before and after the name of a command."""
    return [
        click.Option(
            ["--format", "output_format"],
            type=click.Choice(FORMATS),
            expose_value=False,
            callback=_keep("format"),
            help="Format of diagnostics. Default: text.",
        ),
        click.Option(
            ["--strict"],
            is_flag=True,
            expose_value=False,
            callback=_keep("strict"),
            help="Exit with code 1 on warnings, too.",
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            expose_value=False,
            callback=_keep("debug"),
            help="Print tracebacks of errors.",
        ),
    ]


def show(diagnostics: Iterable[Diagnostic], texts: Mapping[str, str] | None = None) -> None:
    """Write diagnostics: text to stderr (none: nothing), formats for programs to stdout."""
    shown_diagnostics = tuple(diagnostics)
    chosen = settings()
    if not shown_diagnostics and chosen.format == "text":
        return
    chosen.warned |= any(d.severity == "warning" for d in shown_diagnostics)
    to_stderr = chosen.format == "text"
    stream = sys.stderr if to_stderr else stdout()
    color = stream.isatty() and "NO_COLOR" not in os.environ
    shown = {**_code(shown_diagnostics), **(texts or {})}
    width = shutil.get_terminal_size().columns if stream.isatty() else None
    write(render(shown_diagnostics, shown, chosen.format, color=color, width=width), err=to_stderr)


def show_unwritten(error: OSError) -> None:
    """Report on stderr that stdout did not take the command's output."""
    unwritten = QS945.diagnostic(
        f"the output was cut: stdout cannot be written: {error.strerror}",
        help="free space on its device, or redirect it elsewhere; files of a work directory are "
        "not affected",
    )
    write(render([unwritten]), err=True)


def _code(diagnostics: Iterable[Diagnostic]) -> dict[str, str]:
    """The files of a model's own code that diagnostics point into."""
    places = [span for d in diagnostics for span in (d.span, *(note.span for note in d.notes))]
    files = {at.file for at in places if at and at.file.endswith(".py")}
    return {
        file: Path(file).read_text("utf-8", errors="replace")
        for file in sorted(files)
        if Path(file).is_file()
    }


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Write text for people, cleaned, to stdout or stderr."""
    write(clean(hide(text)), err=err, nl=nl)


def echo_json(data: Any) -> None:
    """Write data as JSON to stdout. Values of the environment are hidden in its texts, never in its
    keys, so that a program that reads it finds them under every environment."""
    write(clean(json.dumps(hide_values(data), indent=2, ensure_ascii=False)))


def terminal_width() -> int | None:
    """Columns of the terminal that stdout is; None where it is none."""
    return shutil.get_terminal_size().columns if stdout().isatty() else None


def tables() -> Console:
    """Where tables go: as wide as the terminal, and anywhere else as wide as they are."""
    from qatspec.cli.console import CleanConsole

    wide = None if stdout().isatty() else 1000
    return CleanConsole(file=stdout(), highlight=False, markup=False, width=wide)


def is_text() -> bool:
    """Return whether the command writes text for people."""
    return settings().format == "text"
