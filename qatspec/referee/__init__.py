"""The referee: the meaning of every integer op, written for clarity and shared with nothing.

Everything else that runs a Program (executor, ONNX, compiled commands) is right if it equals this.
"""

from qatspec.referee.interpreter import (
    evaluate as evaluate,
    interpret as interpret,
    interpret_all as interpret_all,
)
