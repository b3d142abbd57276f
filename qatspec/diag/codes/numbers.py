"""QS609 to QS611, QS955, QS956, QS960 and QS961: numbers that cannot be quantized or
loaded, and weights of files."""

from __future__ import annotations

from qatspec.diag.model import Code

QS609 = Code("QS609", "a weight that is not finite", about="/model")
QS610 = Code("QS610", "an activation that was not finite in calibration", about="/model")
QS611 = Code("QS611", "fake-quants are switched off", about="/model")
QS955 = Code("QS955", "a file of weights holds numbers that are not finite")
QS956 = Code("QS956", "nothing was loaded from a file of weights")
QS960 = Code("QS960", "a file holds several weights that fit the model")
QS961 = Code("QS961", "an average in a file of weights is not read")
