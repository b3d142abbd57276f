"""The writer of float ONNX, which a handler's `to_onnx` is given."""

from qatspec.qdq.writer import QdqWriter, floor_quotient

__all__ = ["QdqWriter", "floor_quotient"]
