"""A writer of ONNX graphs."""

from qatspec.onnxgraph.writer import BATCH, GraphWriter, onnx_type

__all__ = ["BATCH", "GraphWriter", "onnx_type"]
