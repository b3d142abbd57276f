"""The console that tables and progress are printed on."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from qatspec.render import clean
from qatspec.source import hide


class CleanConsole(Console):
    """A rich console that prints a text as it is: hidden characters are shown instead of obeyed,
    values of the environment are hidden, and brackets are no markup unless a call says so."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """A text of a table's cell or of a line, cleaned."""
        return super().render_str(clean(hide(text)), **options)
