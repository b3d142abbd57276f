"""QS616 and QS617: `model.input`, how pictures become the model's input."""

from __future__ import annotations

from qatspec.diag.model import Code

QS616 = Code("QS616", "mean or std does not fit the input")
QS617 = Code("QS617", "the fixed scale of the input clips pixels")
