"""QS952: processes that end before their work is done."""

from __future__ import annotations

from qatspec.diag.model import Code

QS952 = Code("QS952", "a data loader worker died")
