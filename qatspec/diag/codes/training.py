"""QS962: settings of a training that do not fit the model."""

from __future__ import annotations

from qatspec.diag.model import Code

QS962 = Code("QS962", "a pattern of the trainer fits no parameter")
