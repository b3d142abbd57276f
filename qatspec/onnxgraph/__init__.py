"""A writer of ONNX graphs."""

from qatspec.onnxgraph.writer import (
    BATCH as BATCH,
    GraphWriter as GraphWriter,
    onnx_type as onnx_type,
)
