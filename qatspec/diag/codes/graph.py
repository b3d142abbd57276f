"""QS5xx: tracing and graphs."""

from __future__ import annotations

from qatspec.diag.model import Code

QS501 = Code("QS501", "control flow depends on a tensor's numbers")
QS502 = Code("QS502", "the model's code cannot be traced")
QS503 = Code("QS503", "forward does different things in training and in evaluation")
QS504 = Code("QS504", "the model fails on its example input")
QS505 = Code("QS505", "the model has no such module")
QS506 = Code("QS506", "a dead branch: it reaches no output")
QS512 = Code("QS512", "forward depends on the number of images in the batch")
QS513 = Code("QS513", "forward decided otherwise for the example input")
QS516 = Code("QS516", "a name that cannot stand in Python code")
QS517 = Code("QS517", "what only one mode computes stays in float")
QS518 = Code("QS518", "a boundary that nothing follows in both modes")
QS519 = Code("QS519", "the QAT ONNX holds the network alone")
QS520 = Code("QS520", "the spec's inputs are not those of forward")
