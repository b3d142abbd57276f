"""ONNX files from our own graphs: the converted integers, the Q/DQ form, and a runner."""

from qatspec.onnx.converted import to_onnx
from qatspec.onnx.qdq import export_qat_onnx
from qatspec.onnx.runner import OnnxRunner

__all__ = ["OnnxRunner", "export_qat_onnx", "to_onnx"]
