"""The reference page of integer kinds, written from the table:

python -m qatspec.kinds.reference > docs/kinds.md
"""

from __future__ import annotations

import sys

from qatspec.kinds import KINDS, Kind

_HEAD = """# Integer kinds

The ops of a Program. Layout is NCHW (or N followed by any dims); dimension 0 is the batch, which
shapes leave out. Constants are operands too. A march need not take every kind and refuses those
that it does not know.

"""


def page() -> str:
    """Markdown: an entry a kind with its operands, meaning and attributes."""
    return _HEAD + "".join(_entry(kind) for kind in KINDS.values())


def _entry(kind: Kind) -> str:
    attributes = ", ".join(f"`{name}`" for name in kind.attributes)
    listed = f" Attributes: {attributes}." if attributes else ""
    return f"- `{kind.name}`: {kind.operands}. {kind.meaning}{listed}\n"


if __name__ == "__main__":
    sys.stdout.write(page())
