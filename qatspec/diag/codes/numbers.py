"""QS609 to QS611, QS955 and QS956: numbers that cannot be quantized or loaded."""

from __future__ import annotations

from qatspec.diag.model import Code

QS609 = Code("QS609", "a weight that is not finite")
QS610 = Code("QS610", "an activation that was not finite in calibration")
QS611 = Code("QS611", "fake-quants are switched off")
QS955 = Code("QS955", "a file of weights holds numbers that are not finite")
QS956 = Code("QS956", "nothing was loaded from a file of weights")
