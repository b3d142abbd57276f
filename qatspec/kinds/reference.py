"""The reference page of integer kinds, written from the table."""

from __future__ import annotations

from qatspec.kinds import KINDS, Kind

_HEAD = """# Integer kinds

The ops of a Program. Layout is NCHW (or N followed by any dims); dimension 0 is the batch, which
shapes leave out. Constants are operands too. A march need not take every kind and refuses those
that it does not know.

"""


def page() -> str:
    """Markdown: a section a kind with its operands, meaning and attributes."""
    return _HEAD + "\n".join(_section(kind) for kind in KINDS.values())


def _section(kind: Kind) -> str:
    attributes = ", ".join(f"`{name}`" for name in kind.attributes)
    listed = f" Attributes: {attributes}." if attributes else ""
    return f"`{kind.name}`\n: {kind.operands}. {kind.meaning}{listed}\n"
