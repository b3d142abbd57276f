"""The records of a diagnostic and the errors that carry them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from qatspec.diag.codes import CODES

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A place in a text file: lines and columns are 1-based code points, the end is exclusive.

    `line == 0` names the file as a whole (a damaged checkpoint has no line).
    """

    file: str
    line: int = 0
    col: int = 0
    end_line: int = 0
    end_col: int = 0


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace the text of `span` by `text`."""

    span: Span
    text: str


@dataclass(frozen=True, slots=True)
class Fix:
    """A correction that needs no decision: `qatspec validate --fix` applies its edits.

    text: what belongs at the diagnostic's own place, as YAML; `source` turns it into an edit where
    that place is written out in a file, and drops the fix where it is not.
    line: a line that belongs before the diagnostic's own place.
    """

    title: str
    edits: tuple[Edit, ...] = ()
    text: str | None = None
    line: str | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """A further place or fact that belongs to a diagnostic."""

    text: str
    at: str | None = None
    span: Span | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One finding.

    code      a key of `CODES`.
    message   what is wrong: lower case, no full stop, values in backticks.
    help      the way out, imperative.
    at        JSON pointer into the spec ("/stages/qat/trainer"), resolved to `span` by `source`.
    key       the place is the key at `at`, not its value.
    origin    the plugin that reported it ("name==version").
    """

    code: str
    message: str
    help: str | None = None
    at: str | None = None
    key: bool = False
    span: Span | None = None
    severity: Severity = "error"
    notes: tuple[Note, ...] = ()
    fix: Fix | None = None
    origin: str | None = None

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise InternalError(f"diagnostic code {self.code} is not in the table of codes")


class QatspecError(Exception):
    """Base of every error that qatspec raises on purpose."""


class DiagnosticError(QatspecError):
    """The input is at fault: exit code 1.

    texts: file -> text, where the spec was read; the renderer shows lines from it.
    """

    def __init__(
        self,
        diagnostics: Diagnostic | Iterable[Diagnostic],
        texts: Mapping[str, str] | None = None,
    ) -> None:
        found = (diagnostics,) if isinstance(diagnostics, Diagnostic) else tuple(diagnostics)
        super().__init__("; ".join(f"{d.code}: {d.message}" for d in found))
        self.diagnostics = found
        self.texts = dict(texts or {})


_RAISED = "fix the plugin, or report it to its authors; --debug prints the traceback"


class PluginFault(QatspecError):
    """An error of a plugin: exit code 3. Names the distribution, the hook, the item and the line of
    the plugin's code that raised, or that defines what is wrong."""

    def __init__(
        self,
        message: str,
        *,
        origin: str,
        hook: str = "",
        item: str = "",
        span: Span | None = None,
        code: str = "QS004",
        help: str = "",  # noqa: A002
    ) -> None:
        super().__init__(message)
        self.code = code
        self.help = help or _RAISED
        self.origin = origin
        self.hook = hook
        self.item = item
        self.span = span

    def diagnostic(self) -> Diagnostic:
        """The fault as a finding, with the plugin as its origin."""
        return Diagnostic(
            code=self.code,
            message=str(self),
            help=self.help,
            span=self.span,
            origin=self.origin,
        )


class InternalError(QatspecError):
    """qatspec is at fault: exit code 4."""
