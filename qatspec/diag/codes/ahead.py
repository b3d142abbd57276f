"""QS94x: scales of another dtype, and what is known before training."""

from __future__ import annotations

from qatspec.diag.model import Code

QS940 = Code("QS940", "scales were converted to another dtype")
QS941 = Code("QS941", "a checkpoint does not record the dtype of its scales")
QS942 = Code("QS942", "a data set gives pictures of another shape than the model takes")
QS943 = Code("QS943", "a batch norm trains on one number a channel")
