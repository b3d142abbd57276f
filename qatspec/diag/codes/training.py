"""QS962 to QS964: settings of a training that fit neither the model nor the machine."""

from __future__ import annotations

from qatspec.diag.model import Code

QS962 = Code("QS962", "a pattern of the trainer fits no parameter")
QS963 = Code("QS963", "the model cannot be compiled for training")
QS964 = Code("QS964", "a batch size that is chosen where nothing trains")
