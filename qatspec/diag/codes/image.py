"""QS616 to QS618: `model.input` and `model.inputs`, what the model takes."""

from __future__ import annotations

from qatspec.diag.model import Code

QS616 = Code("QS616", "mean or std does not fit the input")
QS617 = Code("QS617", "the fixed scale of the input clips pixels")
QS618 = Code("QS618", "an input whose keys contradict each other")
