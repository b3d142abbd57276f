"""QS7xx: lowering to integers, integer programs and their ONNX files."""

from __future__ import annotations

from qatspec.diag.model import Code

QS701 = Code("QS701", "an op cannot be lowered to integers")
QS702 = Code("QS702", "an op's input is not quantized")
QS703 = Code("QS703", "an output of the model is not an integer tail")
QS704 = Code("QS704", "an accumulator does not fit")
QS705 = Code("QS705", "a scale is not a positive finite number")
QS706 = Code("QS706", "an input of the model is not quantized where it enters")
QS707 = Code("QS707", "a float part reads a tensor that the quantized modules do not return")
QS708 = Code("QS708", "sums may not fit int32 after training")
QS710 = Code("QS710", "a program file is damaged or foreign", about="")
QS711 = Code("QS711", "a program is not well-formed", about="")
QS712 = Code("QS712", "arrays do not fit the ports", about="")
QS720 = Code("QS720", "an ONNX opset does not hold the dtypes", about="/stages/convert")
QS721 = Code("QS721", "not a converted ONNX of qatspec", about="")
QS722 = Code("QS722", "this CPU does not run 8-bit kernels exactly", about="")
QS723 = Code("QS723", "onnxruntime is not installed", about="")
QS724 = Code("QS724", "an op has no ONNX form here")
QS725 = Code("QS725", "the float parts of a model are missing", about="")
QS726 = Code("QS726", "a model's code holds for one batch alone")
QS727 = Code("QS727", "float16 does not hold the numbers of a float part")
QS728 = Code("QS728", "the network cannot be handed to a vendor's tool")
QS730 = Code("QS730", "a layer's integers depart from its fake-quant")
QS731 = Code("QS731", "a layer is noisier than the threshold")
QS732 = Code("QS732", "layers may saturate on x86 CPUs without VNNI", about="/march")
