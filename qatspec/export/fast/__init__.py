"""A Program in onnxruntime's fast kernels, in standard ONNX ops."""

from qatspec.export.fast.emitter import FastEmitter

__all__ = ["FastEmitter"]
