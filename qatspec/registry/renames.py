"""Names of `qatspec.api` that changed between API versions, and where a plugin uses an old one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from qatspec.diag import Diagnostic, Note, Severity, Span
from qatspec.diag.codes import QS009
from qatspec.hookspecs import API_VERSION
from qatspec.source import code_line

_API = "qatspec.api"

#: Variable -> class of the objects that plugins usually call so, as the plugin guide does.
_USUAL = {
    "context": "GraphContext",
    "ctx": "GraphContext",
    "decision": "Decision",
    "lowering": "Lowering",
    "registry": "Registry",
    "target": "Target",
    "writer": "QdqWriter",
}

#: API version -> old name -> new name. A member of a class is written `Class.member`. A renamed
#: name needs one row here; tests/contract/test_api_names.py reports a missing or wrong row.
RENAMED: Mapping[int, Mapping[str, str]] = {
    1: {
        "Decision.left": "Decision.kind",
        "GraphContext.argument": "GraphContext.call",
        "GraphContext.permutation": "GraphContext.call",
        "GraphContext.setting": "GraphContext.call",
        "Lowering.across": "Lowering.fail",
        "Lowering.axis": "Lowering.scale_axis",
        "Lowering.check_shape": "QuantHandler.lower",
        "Lowering.integer": "Lowering.small_integers",
        "Lowering.keep": "Lowering.emit_same_scale",
        "Lowering.layout": "Lowering.batch_dim",
        "Lowering.need_plain": "OpTrait.IMAGES",
        "Lowering.passive": "Lowering.single_term",
        "Lowering.permute": "permuted",
        "Lowering.reshape": "reshaped",
        "Lowering.settled": "Lowering.is_small",
        "Lowering.target": "Lowering.grid",
        "Lowering.whole": "INTEGERS",
        "Lowering.write": "Lowering.emit_value_axes",
        "QdqWriter.fill": "QdqWriter.padded",
        "QdqWriter.w": "QdqWriter.graph",
        "QdqWriter.write": "export_qat_onnx",
        "QuantHandler.example": "QuantHandler.examples",
        "QuantHandler.reference": "Example.reference",
        "Registry.blame": "Registry.attribute_errors",
        "Registry.blame_owner": "Registry.attribute_errors_of",
        "Registry.broken": "Registry.interface_fault",
        "Registry.culprit": "Registry.plugin_fault",
        "Registry.doubts": "Registry.disputes",
        "Registry.undisputed": "Registry.require_undisputed",
        "Sum": "PendingSum",
        "Target.align_channels_in": "Hardware.align_channels_in",
        "Target.align_channels_out": "Hardware.align_channels_out",
        "Target.align_width": "Hardware.align_width",
        "Target.clock_mhz": "Hardware.clock_mhz",
        "Target.cores": "Hardware.cores",
        "Target.ddr_bytes_per_us": "Hardware.ddr_bytes_per_us",
        "Target.depthwise_macs_per_cycle": "Hardware.depthwise_macs_per_cycle",
        "Target.from_capabilities": "Target.of",
        "Target.macs_per_cycle": "Hardware.macs_per_cycle",
        "Target.onchip_bytes": "Hardware.onchip_bytes",
        "Target.run_overhead_us": "Hardware.run_overhead_us",
        "Target.start_overhead_us": "Hardware.start_overhead_us",
        "Target.vector_lanes": "Hardware.vector_lanes",
        "Term": "ScaledInts",
        "simulate": "run_compiled",
    }
}


class Renamed(NamedTuple):
    """A row of the table, and the line of a plugin that uses the old name, where it is known."""

    version: int
    old: str
    new: str
    span: Span | None = None

    def __str__(self) -> str:
        return f"`{self.old}` is called `{self.new}` in version {API_VERSION} of the plugin API"


def uses_of_old_names(sources: Iterable[Path], version: int) -> list[Renamed]:
    """Return where Python files use names that were renamed since API `version`.

    Each name is listed once, at its first use, in the order of the table. The class of an object is
    taken from the annotation of an argument or from the usual name of a variable (`_USUAL`).
    """
    rows = [Renamed(version, *row) for row in RENAMED[version].items()]
    first: dict[str, Span] = {}
    for path in sources:
        for name, line in _names(path):
            if name not in first:
                first[name] = code_line(str(path), line)
    used = [row._replace(span=first.get(row.old)) for row in rows]
    return [row for row in used if row.span]


def outdated(
    message: str, uses: Sequence[Renamed], *, origin: str, severity: Severity, at: str = ""
) -> Diagnostic:
    """A plugin that uses old names, QS009. Notes: each use with its line, then every new name."""
    version = uses[0].version
    every = ", ".join(f"`{old}` -> `{new}`" for old, new in RENAMED[version].items())
    notes = [Note(f"`{use.old}` is now `{use.new}`", span=use.span) for use in uses]
    return QS009.diagnostic(
        message,
        help=f"use the new names and state `qatspec_api = {API_VERSION}` in the plugin's module, "
        "or install a newer version of the plugin",
        severity=severity,
        at=at or None,
        notes=(*notes, Note(f"all names that changed since version {version}: {every}")),
        origin=origin,
    )


def missing_name(error: BaseException) -> Renamed | None:
    """Return the row of the old name that an import or a read of an attribute did not find."""
    for version, renamed in RENAMED.items():
        for name in _missing(error):
            if name in renamed:
                return Renamed(version, name, renamed[name])
    return None


def _missing(error: BaseException) -> Iterator[str]:
    """The names under which what was not found may be in the table."""
    if isinstance(error, ImportError) and error.name == _API:
        yield from re.findall(r"cannot import name '(\w+)'", str(error))
    elif isinstance(error, TypeError):
        words = r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'"
        yield from (".".join(match) for match in re.findall(words, str(error)))
    elif isinstance(error, AttributeError) and error.name:
        if getattr(error.obj, "__name__", "") == _API:
            yield error.name
        classes = error.obj.__mro__ if isinstance(error.obj, type) else type(error.obj).__mro__
        yield from (f"{cls.__name__}.{error.name}" for cls in classes)


def _names(path: Path) -> Iterator[tuple[str, int]]:
    """(name, line) of the names of `qatspec.api` in a file; "Class.member" for members."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    typed = {argument.arg: _class_of(argument) for argument in _arguments(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == _API:
            yield from ((alias.name, alias.lineno) for alias in node.names)
        elif isinstance(node, ast.Call):
            name = _last(node.func)
            yield from ((f"{name}.{key.arg}", key.value.lineno) for key in node.keywords if key.arg)
        elif isinstance(node, ast.Attribute):
            owner = _last(node.value)
            cls = typed.get(owner) or _USUAL.get(owner, owner)
            line = node.end_lineno or node.lineno
            yield (node.attr if owner == "api" else f"{cls}.{node.attr}"), line


def _arguments(tree: ast.AST) -> Iterator[ast.arg]:
    """The arguments of every function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield from (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)


def _class_of(argument: ast.arg) -> str:
    """The class that the annotation of an argument names; "" without annotation."""
    annotation = argument.annotation
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return annotation.value.rpartition(".")[2]
    return _last(annotation) if annotation is not None else ""


def _last(node: ast.expr) -> str:
    """`c` of `a.b.c`, `a.b.c()` and `c`; "" for other expressions."""
    if isinstance(node, ast.Call):
        return _last(node.func)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
