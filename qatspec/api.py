"""The one module that plugins and scripts import. Everything is loaded when first touched, so
that importing it costs no torch."""

from __future__ import annotations

import importlib
from typing import Any

#: public name -> module that owns it
_HOME: dict[str, str] = {}


def _export(module: str, *names: str) -> None:
    _HOME.update(dict.fromkeys(names, module))


_export("qatspec.diag", "Diagnostic", "DiagnosticError", "Note", "Span")
_export("qatspec.hookspecs", "hookimpl")
_export(
    "qatspec.types",
    "NO_PARAMS", "Annotation", "Arithmetic", "Dataset", "DatasetDef", "Finding", "Fixed", "Float",
    "FusePattern", "March", "ModelDef", "Observed", "ObserverDef", "PrepareConfig",
    "PrepareConfigDef", "QConfig", "QConfigDef", "QSpec", "QuantHandler", "Sample", "Shared",
    "StageEvent", "TaskModel", "Verdict", "lazy",
)  # fmt: skip
_export("qatspec.spec", "Spec", "load")
_export("qatspec.registry", "Registry", "registry")
_export("qatspec.plan", "Plan", "resolve")
_export("qatspec.graph", "Decision", "Prepared")
_export("qatspec.program", "Artifact", "Op", "Port", "Program", "Provenance", "Value", "interpret")
_export("qatspec.prepare", "prepare", "set_stage")
_export("qatspec.lower", "lower")
_export("qatspec.onnx", "OnnxRunner", "export_qat_onnx", "to_onnx")
_export(
    "qatspec.backend",
    "Target", "assemble", "compile", "perf", "run_compiled", "simulate", "verdict", "write_perf",
)  # fmt: skip
_export("qatspec.engine", "run")


def __getattr__(name: str) -> Any:
    try:
        home = _HOME[name]
    except KeyError:
        raise AttributeError(f"module 'qatspec.api' has no attribute {name!r}") from None
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(_HOME)


__all__ = sorted(_HOME)
