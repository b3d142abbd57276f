"""onnxruntime's sessions in tests, on CPUs whose fastest 8-bit kernels saturate."""

from __future__ import annotations

import functools
from typing import Any

from qatspec.export.saturation import PRECISION

#: With it int8 stays int8, whose kernels are exact and know no unsigned weights.
INT8_ALLOWED = "session.qdqisint8allowed"
_made: set[int] = set()


def make_exact(onnxruntime: Any) -> None:
    """Let sessions compute what the file says, where this CPU's fastest kernels do not.

    They are asked for exact kernels of products with weights. Q/DQ around other ops is not made
    integers of: products of two activations saturate whatever a session is asked for. Sessions
    whose optimized graph a test looks at, and those that keep int8, are left alone.
    """
    kind = onnxruntime.InferenceSession
    if id(kind) in _made:
        return
    _made.add(id(kind))
    from qatspec.export.runner import saturates

    if not saturates():
        return
    plain, levels = kind.__init__, onnxruntime.GraphOptimizationLevel

    @functools.wraps(plain)
    def init(self: Any, model: Any, sess_options: Any = None, *args: Any, **kwargs: Any) -> None:
        options = sess_options or onnxruntime.SessionOptions()
        if not any(_has(options, key) for key in (PRECISION, INT8_ALLOWED)):
            options.add_session_config_entry(PRECISION, "1")
            largest = options.graph_optimization_level == levels.ORT_ENABLE_ALL
            if largest and not options.optimized_model_filepath and not _has_integer_kernels(model):
                options.graph_optimization_level = levels.ORT_ENABLE_BASIC
        plain(self, model, options, *args, **kwargs)

    kind.__init__ = init


def _has(options: Any, key: str) -> bool:
    try:
        options.get_session_config_entry(key)
    except RuntimeError:
        return False
    return True


def _has_integer_kernels(model: Any) -> bool:
    """Whether the file itself asks for them: they are exact at the largest level alone."""
    import onnx

    read = onnx.load_from_string if isinstance(model, bytes) else onnx.load
    nodes = read(model).graph.node
    return any("Integer" in node.op_type or "QLinear" in node.op_type for node in nodes)
