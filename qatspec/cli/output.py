"""Output of commands: the options that all of them have, and diagnostics by one renderer."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from qatspec.cli.streams import is_colored, stdout, write
from qatspec.diag import Diagnostic
from qatspec.diag.codes import QS945
from qatspec.render import FORMATS, Format, clean, render, wrap as wrap_words
from qatspec.source import hide, hide_values

#: Key of click's `Context.meta` for the arguments of the command line.
ARGUMENTS = "qatspec.arguments"

if TYPE_CHECKING:
    from rich.console import Console


#: Formats that are one document, which is written when the command ends.
_DOCUMENTS = ("json", "sarif")


@dataclass(slots=True)
class Settings:
    """Values of --format, --quiet, --strict and --debug; `warned`: a warning was shown.

    held, texts  diagnostics of the document, and the texts of their files.
    data         what the command writes for programs, which the document holds as well.
    open_keys    the keys of `data` are names of the user's: diagnostics are not put among them.
    written      stdout has the command's output already: a spec, a schema, or what the processes
                 that it started wrote.
    """

    format: Format = "text"
    quiet: bool = False
    strict: bool = False
    debug: bool = False
    warned: bool = False
    held: list[Diagnostic] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    data: Any = None
    open_keys: bool = False
    written: bool = False


def settings() -> Settings:
    """The settings of the running command; the defaults outside of one."""
    context = click.get_current_context(silent=True)
    return context.find_root().ensure_object(Settings) if context else Settings()


def _keep(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value:
            setattr(context.find_root().ensure_object(Settings), name, value)

    return callback


def _keep_format(context: click.Context, _: click.Parameter, value: Any) -> None:
    """Of --format, and of --json, whose value is a bool."""
    if not value:
        return
    chosen = context.find_root().ensure_object(Settings)
    wanted: Format = "json" if value is True else value
    if chosen.format not in ("text", wanted):
        raise click.UsageError(f"two formats at once: {chosen.format} and {wanted}")
    chosen.format = wanted


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


def _flag(name: str, callback: Callable[..., None], help_: str) -> click.Option:
    return click.Option([name], is_flag=True, expose_value=False, callback=callback, help=help_)


def common_options() -> list[click.Option]:
    """Options that are accepted before and after the name of a command."""
    return [
        click.Option(
            ["--format", "output_format"],
            type=click.Choice(FORMATS),
            expose_value=False,
            callback=_keep_format,
            help="Format of diagnostics. Default: text.",
        ),
        _flag("--json", _keep_format, "Short for --format json."),
        _flag(
            "--quiet", _keep("quiet"), "Print warnings and errors only, and what is for programs."
        ),
        _flag("--strict", _keep("strict"), "Exit with code 1 on warnings, too."),
        _flag("--debug", _keep("debug"), "Print tracebacks of errors."),
    ]


def show(diagnostics: Iterable[Diagnostic], texts: Mapping[str, str] | None = None) -> None:
    """Write diagnostics: text to stderr (none: nothing), `github` to stdout. Those of a format that
    is one document are kept for its end (`write_document`)."""
    shown_diagnostics = tuple(diagnostics)
    chosen = settings()
    if not shown_diagnostics and chosen.format == "text":
        return
    chosen.warned |= any(d.severity == "warning" for d in shown_diagnostics)
    if is_document():
        chosen.held += shown_diagnostics
        chosen.texts |= {**_code(shown_diagnostics), **(texts or {})}
        return
    to_stderr = chosen.format == "text"
    stream = sys.stderr if to_stderr else stdout()
    color = is_colored(stream)
    shown = {**_code(shown_diagnostics), **(texts or {})}
    width = shutil.get_terminal_size().columns if stream.isatty() else None
    write(render(shown_diagnostics, shown, chosen.format, color=color, width=width), err=to_stderr)


def write_document(*, ended: bool = True) -> None:
    """Write the document of `--format json` and `sarif`: the data of the command with its
    diagnostics, or these alone. Other formats have none.

    ended: the command ran to its end or to an error, so that there are diagnostics to write, if
    only none. Where stdout has another output of the command already, or the keys of its data are
    names, they go to stderr.
    """
    chosen = settings()
    if not is_document() or (not ended and chosen.data is None):
        return
    rendered = render(chosen.held, chosen.texts, chosen.format)
    if chosen.data is None or chosen.format != "json":
        if not chosen.written or chosen.held:
            write(rendered, err=chosen.written)
        return
    data = hide_values(chosen.data)
    if chosen.held and not chosen.open_keys:
        data = {**data, "diagnostics": json.loads(rendered)["diagnostics"]}
    write(_json(data), err=chosen.written)
    if chosen.held and chosen.open_keys:
        write(rendered, err=True)


def _json(data: Any) -> str:
    return clean(json.dumps(data, indent=2, ensure_ascii=False))


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


def echo(text: str = "", *, err: bool = False, nl: bool = True, wrap: bool = True) -> None:
    """Write text for people, cleaned, to stdout or stderr: to stderr where stdout is for a
    document. With --quiet, only what is for stderr itself.

    wrap: break lines between words where they go to a terminal, which would break them anywhere;
    not for commands, which are copied."""
    if settings().quiet and not err:
        return
    shown = clean(hide(text))
    width = terminal_width(err=err or is_document()) if wrap else None
    if width is not None:
        shown = "\n".join(_wrapped(line, max(width, 40)) for line in shown.split("\n"))
    write(shown, err=err or is_document(), nl=nl)


def _wrapped(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    indent = line[: len(line) - len(line.lstrip())]
    return "\n".join(wrap_words(line.strip(), width, first=indent, rest=f"{indent}    "))


def write_product(text: str) -> None:
    """Write what the command is for, cleaned, to stdout in every format: a spec, a schema, a
    script."""
    settings().written = True
    write(clean(text), nl=False)


def echo_json(data: Mapping[str, Any], *, open_keys: bool = False) -> None:
    """Write data as JSON to stdout; with `--format json` at the end, with the diagnostics. Values
    of the environment are hidden in its texts, never in its keys, so that a program that reads it
    finds them under every environment.

    open_keys: its keys are names of the user's, and diagnostics go to stderr."""
    if is_document():
        chosen = settings()
        chosen.data, chosen.open_keys = data, open_keys
    else:
        write(_json(hide_values(data)))


def terminal_width(*, err: bool = False) -> int | None:
    """Columns of the terminal that stdout is, or stderr; None where it is none."""
    stream = sys.stderr if err else stdout()
    return shutil.get_terminal_size().columns if stream.isatty() else None


def tables() -> Console:
    """Where tables go: as wide as the terminal, and anywhere else as wide as they are."""
    from qatspec.cli.console import CleanConsole

    stream = people()
    wide = None if stream.isatty() else 1000
    return CleanConsole(file=stream, highlight=False, markup=False, width=wide)


def people() -> TextIO:
    """The stream of text for people: stderr where stdout is for a document."""
    return sys.stderr if is_document() else stdout()


def is_document() -> bool:
    """Return whether stdout is for one document (JSON, SARIF)."""
    return settings().format in _DOCUMENTS


def is_text() -> bool:
    """Return whether the command writes text for people."""
    return settings().format == "text"
