"""QS4xx: the plan."""

from __future__ import annotations

from qatspec.diag.model import Code

QS401 = Code("QS401", "fixed activation scales without a calibration")
QS402 = Code("QS402", "a stage has nothing to start from")
QS403 = Code("QS403", "a pre_step that is not an earlier stage")
QS404 = Code("QS404", "a module without a qconfig")
QS405 = Code("QS405", "candidates that cannot be tried")
