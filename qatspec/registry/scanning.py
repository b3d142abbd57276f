"""What the Python source of a file plugin says of files that no audit event shows."""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

#: Packages with compiled code that open files by Python's `open`, where an audit hook sees them.
_READ_BY_PYTHON = frozenset(
    {
        "PIL", "click", "jsonschema", "matplotlib", "numpy", "onnx", "onnxruntime", "pandas",
        "pluggy", "pycocotools", "qatspec", "qatspec_demo", "qatspec_horizon",
        "qatspec_onnxruntime", "qatspec_openvino", "qatspec_qnn", "qatspec_trackers",
        "qatspec_vision", "rich", "scipy", "sklearn", "timm", "torch", "torchvision", "yaml",
    }
)  # fmt: skip
#: What reads files by itself in those packages: modules, and names of functions.
_NATIVE_MODULES = frozenset({"torchvision.io", "torch.jit"})
_NATIVE_CALLS = frozenset(
    {"InferenceSession", "decode_image", "from_file", "read_file", "read_image", "read_video"}
)
#: Functions and methods that ask of a file whether it is there, or what it is, without opening it:
#: Python raises no audit event for them.
_ASKS = frozenset(
    {
        "access", "exists", "is_dir", "is_file", "is_symlink", "isdir", "isfile", "islink",
        "lexists", "readlink", "samefile",
    }
)  # fmt: skip
#: Those whose answer depends on the content of the file, or on when it was written.
_MEASURES = frozenset({"getctime", "getmtime", "getsize", "lstat", "st_mtime", "st_size", "stat"})
_LONGEST_NAME = 200


def reads_by_native_code(source: bytes) -> bool:
    """Return whether Python source imports what may read files without Python: a package with
    compiled code, unless it is known to open files by Python."""
    return any(_is_native(name) for node in _nodes(source) for name in _used(node))


def named_files(source: bytes) -> Iterator[str]:
    """Texts in Python source that may be the name of a file, relative to some folder: the source
    may ask whether it is there (`Path.exists`) before it opens it."""
    for node in _nodes(source):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
            named = "." in text.strip("./") and " " not in text and text.isprintable()
            if named and len(text) <= _LONGEST_NAME:
                yield text


def asks_for_names(source: bytes) -> bool:
    """Return whether Python source asks which files are there; the names may be put together."""
    return any(name in _ASKS for node in _nodes(source) for name in _called(node))


def measures_files(source: bytes) -> bool:
    """Return whether Python source asks for sizes or times of files."""
    return any(name in _MEASURES for node in _nodes(source) for name in _called(node))


def _called(node: ast.AST) -> Iterator[str]:
    """The last names of what a node reads of an object, or imports from a module."""
    if isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.ImportFrom):
        yield from (alias.name for alias in node.names)


def _nodes(source: bytes) -> Iterator[ast.AST]:
    try:
        yield from ast.walk(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # what cannot be parsed cannot be imported either


def _used(node: ast.AST) -> Iterator[str]:
    """Dotted names that a node imports or calls upon."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        if f"{node.value.id}.{node.attr}" in _NATIVE_MODULES or node.attr in _NATIVE_CALLS:
            yield f"{node.value.id}.{node.attr}"
    elif isinstance(node, ast.Attribute) and node.attr in _NATIVE_CALLS:
        yield node.attr


def _is_native(name: str) -> bool:
    if name in _NATIVE_MODULES or name.rpartition(".")[2] in _NATIVE_CALLS:
        return True
    package = name.partition(".")[0]
    return not reads_by_python(package) and _has_compiled_code(package)


def reads_by_python(package: str) -> bool:
    """Return whether a package with compiled code is known to open files by Python."""
    return package in _READ_BY_PYTHON or package in sys.stdlib_module_names


@cache
def _has_compiled_code(package: str) -> bool:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError, AttributeError):
        return False
    suffixes = tuple(importlib.machinery.EXTENSION_SUFFIXES)
    if spec is None:
        return False
    if spec.origin and spec.origin.endswith(suffixes):
        return True
    folders = spec.submodule_search_locations or ()
    return any(p.name.endswith(suffixes) for f in folders for p in Path(f).rglob("*"))
