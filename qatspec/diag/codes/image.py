"""QS616 and QS617: `model.input`, how pictures become the model's input."""

from __future__ import annotations

from qatspec.diag.model import Code

QS616 = Code("QS616", "mean or std has another number of entries than the input has channels")
QS617 = Code("QS617", "the fixed scale of the input clips pixels")
