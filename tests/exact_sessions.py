"""onnxruntime's sessions in tests, on CPUs whose fastest 8-bit kernels saturate."""

from __future__ import annotations

import functools
from typing import Any

from qatspec.export.saturation import PRECISION

#: With it int8 stays int8, whose kernels are exact and know no unsigned weights.
INT8_ALLOWED = "session.qdqisint8allowed"
_made: set[int] = set()


def largest_level() -> str:
    """onnxruntime's largest level of optimization whose products are exact on this CPU. Those of
    two activations saturate at higher ones whatever the session is asked for."""
    from qatspec.export.runner import saturates

    return "ORT_ENABLE_BASIC" if saturates() else "ORT_ENABLE_ALL"


def make_exact(onnxruntime: Any) -> None:
    """Let sessions ask for kernels that do not saturate, where this CPU's fastest ones do."""
    kind = onnxruntime.InferenceSession
    if id(kind) in _made:
        return
    _made.add(id(kind))
    from qatspec.export.runner import saturates

    if not saturates():
        return
    plain = kind.__init__

    @functools.wraps(plain)
    def init(self: Any, model: Any, sess_options: Any = None, *args: Any, **kwargs: Any) -> None:
        options = sess_options or onnxruntime.SessionOptions()
        if not any(_has(options, key) for key in (PRECISION, INT8_ALLOWED)):
            options.add_session_config_entry(PRECISION, "1")
        plain(self, model, options, *args, **kwargs)

    kind.__init__ = init


def _has(options: Any, key: str) -> bool:
    try:
        options.get_session_config_entry(key)
    except RuntimeError:
        return False
    return True
