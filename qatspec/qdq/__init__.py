"""What a handler writes the float ONNX form of an op with."""

from qatspec.qdq.writer import QdqWriter, floor_quotient

__all__ = ["QdqWriter", "floor_quotient"]
