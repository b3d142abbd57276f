"""Which line of the model's code is running: frames of torch, NumPy and qatspec are skipped."""

from __future__ import annotations

import inspect
import linecache
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any

import numpy as np
import torch
from torch import nn

from qatspec.diag import Span
from qatspec.source import code_line

_SKIPPED = tuple(f"{Path(p).parent}/" for p in (torch.__file__, np.__file__, __file__))


def _is_model_code(filename: str) -> bool:
    return not filename.startswith(("<", *_SKIPPED))


def model_frame(stop: CodeType | None = None) -> FrameType | None:
    """The innermost running frame of the model's code, None when `stop` comes first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not stop:
        if _is_model_code(frame.f_code.co_filename):
            return frame
        frame = frame.f_back
    return None


def frame_span(frame: FrameType) -> Span:
    """The expression that a frame is running."""
    return _span(frame.f_code, frame.f_lasti, frame.f_lineno)


def model_span(traceback: TracebackType | None) -> Span | None:
    """The innermost expression of the model's code that an exception passed through."""
    span = None
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if _is_model_code(code.co_filename):
            span = _span(code, traceback.tb_lasti, traceback.tb_lineno)
        traceback = traceback.tb_next
    return span


def line_span(source: str) -> Span | None:
    """The line that "file:line" (as nodes carry it, see `stable_name`) names; None for ""."""
    name, _, line = source.rpartition(":")
    return code_line(_file_of(name), int(line)) if name and line.isdigit() else None


def _file_of(name: str) -> str:
    """The file of the loaded module that has this stable name; the name where there is none."""
    for module, loaded in list(sys.modules.items()):
        file = getattr(loaded, "__dict__", {}).get("__file__")  # asks no module that loads lazily
        if file and file.endswith(name) and _stable(module, str(file)) == name:
            return str(file)
    return name


def _span(code: CodeType, instruction: int, line: int) -> Span:
    """The source of one instruction; before Python 3.11, which has no columns, the whole line."""
    line_of_code = code_line(code.co_filename, line)
    if sys.version_info >= (3, 11):
        first, last, left, right = next(islice(code.co_positions(), instruction // 2, None))
        if first == last == line and left is not None and right is not None:
            encoded = linecache.getline(code.co_filename, line).encode()  # Python counts bytes
            start, end = (len(encoded[:n].decode(errors="ignore")) for n in (left, right))
            return replace(line_of_code, col=start + 1, end_col=end + 1)
    return line_of_code


def stable_name(frame: FrameType) -> str:
    """ "package/module.py:line", the same on every machine."""
    module = frame.f_globals.get("__name__", "__main__")
    return f"{_stable(module, frame.f_code.co_filename)}:{frame.f_lineno}"


@cache  # tracing asks for every node
def _stable(module: str, file: str) -> str:
    """As many parts of the path as the module's name has: a folder for each package."""
    path = Path(file)
    depth = len(module.split(".")) + (module != "__main__" and path.stem == "__init__")
    return Path(*path.parts[-depth:]).as_posix()


@dataclass(frozen=True, slots=True)
class Function:
    """A function of a module of Python that is running, or a method of a part of the model.

    owner: that part; of a static method the class that has it; None for a function.
    """

    callable: Callable[..., Any]
    code: CodeType
    owner: nn.Module | type | None = None


def functions_around(frame: FrameType | None) -> tuple[Function, ...]:
    """The functions that are running, from the outermost to that of `frame`."""
    functions = []
    while frame is not None:
        functions += _function(frame)
        frame = frame.f_back
    return tuple(reversed(functions))


def functions_in(traceback: TracebackType | None) -> tuple[Function, ...]:
    """The functions that an error went through, from the outermost on."""
    functions = []
    while traceback is not None:
        functions += _function(traceback.tb_frame)
        traceback = traceback.tb_next
    return tuple(functions)


def _function(frame: FrameType) -> list[Function]:
    """[the function that a frame runs]; [] where neither its module nor a class has a name for
    it."""
    code = frame.f_code
    if not _is_model_code(code.co_filename):
        return []
    first = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
    if isinstance(first, nn.Module):
        method: Any = getattr(type(first), code.co_name, None)
        if _runs(method, code):
            return [Function(method, code, first)]
    outer, *inner = getattr(code, "co_qualname", code.co_name).split(".")
    home: Any = None
    function: Any = frame.f_globals.get(outer)
    for name in inner:
        home, function = function, getattr(function, name, None)
    owner = home if isinstance(home, type) else None
    return [Function(function, code, owner)] if _runs(function, code) else []


def _runs(function: Any, code: CodeType) -> bool:
    """Whether calling `function`, perhaps through decorators, runs `code`."""
    return callable(function) and getattr(inspect.unwrap(function), "__code__", None) is code
