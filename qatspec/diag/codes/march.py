"""QS8xx: marches and compiled files."""

from __future__ import annotations

from qatspec.diag.model import Code

QS801 = Code("QS801", "the march cannot run an op")
QS802 = Code("QS802", "a layer does not fit the on-chip memory")
QS803 = Code("QS803", "wrong options for a march's compiler")
QS804 = Code("QS804", "the march's runtime is not installed")
QS805 = Code("QS805", "no performance model for a compiled file")
QS806 = Code("QS806", "the compiled file cannot take such frames")
QS807 = Code("QS807", "the march has no unsigned activations")
QS808 = Code("QS808", "a QAT ONNX of int8 cannot hold unsigned activations")
QS810 = Code("QS810", "a compiled file is damaged or foreign")
QS811 = Code("QS811", "a compiled file holds no program for its march")
QS812 = Code("QS812", "compiled commands do not compute the Program")
QS813 = Code("QS813", "parts of the network run on the CPU beside the chip")
