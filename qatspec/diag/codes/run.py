"""QS9xx: running: data, checkpoints, files."""

from __future__ import annotations

from qatspec.diag.codes.code import Code

CODES: tuple[Code, ...] = ()
