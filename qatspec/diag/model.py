"""The records of a diagnostic, the codes that make them, and the error that carries them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from typing_extensions import Unpack

Severity = Literal["error", "warning"]

_PAGES = Path(__file__).parent / "codes"

#: First digit of a code -> `Code.about`: what is refused by these is the network, or how it is
#: quantized.
_ABOUT = {"5": "/model", "6": "/quantize", "7": "/model"}


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A place in a text file: lines and columns are 1-based code points, the end is exclusive.

    file            its path.
    line, col       numbers of the first line and column.
    end_line        number of the last line; end_col: number of the column behind the last.
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
    """A further place or fact that belongs to a diagnostic.

    text  what it says. at: JSON pointer into the spec, resolved to `span`, the place in a file.
    """

    text: str
    at: str | None = None
    span: Span | None = None


class Parts(TypedDict, total=False):
    """The fields of a `Diagnostic` besides its code, message and severity."""

    help: str | None
    at: str | None
    key: bool
    span: Span | None
    notes: tuple[Note, ...]
    fix: Fix | None
    origin: str | None
    subject: str


class Code(str):
    """A diagnostic code such as `QS505`: a string that knows its headline and its page, and makes
    the diagnostics that carry it. A code is never reused for another diagnostic.

    about: JSON pointer to the part of a spec where a diagnostic without a place of its own is
    shown; "" where no part of a spec is at fault, None: by the code's first digit."""

    __slots__ = ("about", "headline")
    headline: str
    about: str

    def __new__(cls, id_: str, headline: str, about: str | None = None) -> Code:
        code = super().__new__(cls, id_)
        code.headline = headline
        code.about = _ABOUT.get(id_[2:3], "") if about is None else about
        return code

    def __reduce__(self) -> tuple[Any, ...]:  # for processes that pass diagnostics to each other
        return Code, (str(self), self.headline, self.about)

    @property
    def page(self) -> str:
        """Markdown, read from the package: what happened, why it matters, and how to fix it."""
        return (_PAGES / f"{self}.md").read_text(encoding="utf-8")

    def diagnostic(
        self, message: str, severity: Severity = "error", **parts: Unpack[Parts]
    ) -> Diagnostic:
        """Return a diagnostic to be collected; for `parts` see `Diagnostic`."""
        return Diagnostic(code=self, message=message, severity=severity, **parts)

    def warning(self, message: str, **parts: Unpack[Parts]) -> Diagnostic:
        """Return a diagnostic that ends nothing; for `parts` see `Diagnostic`."""
        return self.diagnostic(message, "warning", **parts)

    def error(self, message: str, **parts: Unpack[Parts]) -> DiagnosticError:
        """Return an error to be raised; for `parts` see `Diagnostic`."""
        return DiagnosticError(self.diagnostic(message, **parts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One finding, made by its code: `QS505.error(...)`, `.warning(...)` or `.diagnostic(...)`.

    code      the object from `qatspec.diag.codes`.
    message   what is wrong: lower case, no full stop, values in backticks.
    help      the way out, imperative.
    at        JSON pointer into the spec ("/stages/qat/trainer"), resolved to `span` by `source`.
              What opening a data set raises may have one that leads on from its entry in the spec
              ("params/size"); without any, the place is that entry.
    key       the place is the key at `at`, not its value.
    span      the place in a file.
    severity  "error" or "warning".
    notes     further places and facts.
    fix       the edit that follows `help`, where it is certain; `validate --fix` makes it.
    origin    the plugin that reported it ("name==version").
    subject   the part of the message that names the op or module; diagnostics whose messages are
              equal but for their subjects are reported as one (`qatspec.diag.collect`).

    Raises TypeError for a code that is a plain string.
    """

    code: Code
    message: str
    help: str | None = None
    at: str | None = None
    key: bool = False
    span: Span | None = None
    severity: Severity = "error"
    notes: tuple[Note, ...] = ()
    fix: Fix | None = None
    origin: str | None = None
    subject: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.code, Code):  # a plugin that is not checked by mypy
            raise TypeError(
                f"the code of a diagnostic is an object of `qatspec.api.codes`, not {self.code!r}: "
                "write `codes.QS911.error(...)`"
            )


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
        several = (diagnostics,) if isinstance(diagnostics, Diagnostic) else tuple(diagnostics)
        super().__init__("; ".join(f"{d.code}: {d.message}" for d in several))
        self.diagnostics = several
        self.texts = dict(texts or {})


class InternalError(QatspecError):
    """qatspec is at fault: exit code 4."""
