"""The console that tables and progress are printed on."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from qatspec.cli.output import settings
from qatspec.cli.streams import is_colored
from qatspec.render import clean
from qatspec.source import hide


class CleanConsole(Console):
    """A rich console that prints a text as it is: hidden characters are shown instead of obeyed,
    values of the environment are hidden, and brackets are no markup unless a call says so.

    Styles are written where `is_colored` says so. What moves, such as progress bars, is for
    terminals alone, where rich's own reading of FORCE_COLOR would put it into logs. With --quiet,
    nothing is printed."""

    def __init__(self, **options: Any) -> None:
        stream = options.get("file") or (sys.stderr if options.get("stderr") else sys.stdout)
        terminal = options.setdefault("force_terminal", stream.isatty())
        colors = ("auto" if terminal else "standard") if is_colored(stream) else None
        usual = {"markup": False, "emoji": False, "quiet": settings().quiet}
        super().__init__(**{**usual, "color_system": colors, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """A text of a table's cell or of a line, cleaned."""
        return super().render_str(clean(hide(text)), **options)
