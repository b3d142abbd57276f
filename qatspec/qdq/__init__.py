"""The writer of float ONNX, which a handler's `to_onnx` is given."""

from qatspec.qdq.writer import QdqWriter as QdqWriter, floor_quotient as floor_quotient
