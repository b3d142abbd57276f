"""Which line of the model's code is running: frames of torch and of qatspec's rooms are skipped."""

from __future__ import annotations

import sys
from pathlib import Path
from types import CodeType, FrameType, TracebackType

import torch

from qatspec.diag import Span

_SKIPPED = tuple(f"{Path(p).parent}/" for p in (torch.__file__, __file__))


def _is_model_code(filename: str) -> bool:
    return not filename.startswith(("<", *_SKIPPED))


def model_frame(stop: CodeType) -> FrameType | None:
    """The innermost running frame of the model's code, None when `stop` comes first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not stop:
        if _is_model_code(frame.f_code.co_filename):
            return frame
        frame = frame.f_back
    return None


def model_span(traceback: TracebackType | None) -> Span | None:
    """The innermost place in the model's code that an exception passed through."""
    span = None
    while traceback is not None:
        filename = traceback.tb_frame.f_code.co_filename
        if _is_model_code(filename):
            span = Span(filename, traceback.tb_lineno)
        traceback = traceback.tb_next
    return span


def stable_name(frame: FrameType) -> str:
    """ "package/module.py:line", the same on every machine."""
    module = frame.f_globals.get("__name__", "__main__")
    path = Path(frame.f_code.co_filename)
    if module != "__main__":
        parts = module.split(".")
        depth = len(parts) + (path.stem == "__init__")
        path = Path(*path.parts[-depth:])
    else:
        path = Path(path.name)
    return f"{path.as_posix()}:{frame.f_lineno}"
