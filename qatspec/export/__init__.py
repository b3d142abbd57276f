"""ONNX files from our own graphs: the converted integers, the Q/DQ form, and a runner."""

from qatspec.export.converted import to_onnx as to_onnx
from qatspec.export.qdq import export_qat_onnx as export_qat_onnx
from qatspec.export.runner import OnnxRunner as OnnxRunner
