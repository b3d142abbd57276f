"""QS6xx: quantization."""

from __future__ import annotations

from qatspec.diag.model import Code

QS601 = Code("QS601", "a quantization setting that does not exist")
QS602 = Code("QS602", "code of a prepare key that cannot be used")
QS603 = Code("QS603", "quantize_input: false, but the producer is not quantized")
QS604 = Code("QS604", "quantize_output: false needs a conv or linear at the end")
QS605 = Code("QS605", "a scale that was never observed")
QS606 = Code("QS606", "a batch norm was not folded")
QS607 = Code("QS607", "a rule on a fused op has no effect")
QS608 = Code("QS608", "an op stays in float")
QS613 = Code("QS613", "a constant takes the whole range")
QS614 = Code("QS614", "an activation that was 0 in every batch of the calibration")
QS615 = Code("QS615", "batch norms without statistics")
