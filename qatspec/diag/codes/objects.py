"""QS507 to QS511: model objects that cannot be prepared as they are."""

from __future__ import annotations

from qatspec.diag.model import Code

QS507 = Code("QS507", "a model object that cannot be prepared")
QS508 = Code("QS508", "a hook on the model")
QS509 = Code("QS509", "a tensor that is not plain float32")
QS510 = Code("QS510", "random numbers in evaluation")
QS511 = Code("QS511", "a model that cannot be copied")
QS514 = Code("QS514", "an output that is no tensor")
QS515 = Code("QS515", "a change in place under torch.no_grad()")
