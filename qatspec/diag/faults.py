"""The error of a plugin."""

from __future__ import annotations

from qatspec.diag.codes import QS004
from qatspec.diag.model import Code, Diagnostic, QatspecError, Span

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
        code: Code = QS004,
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
        return self.code.diagnostic(str(self), help=self.help, span=self.span, origin=self.origin)
