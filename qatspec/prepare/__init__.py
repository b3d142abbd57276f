"""prepare: one pass a file, `pipeline.py` read top to bottom. Loaded when first touched, because
`prepare.plugin` must not load torch."""

from __future__ import annotations

from typing import Any

_HOME = {
    "prepare": "qatspec.prepare.pipeline",
    "prepare_spec": "qatspec.prepare.pipeline",
    "set_stage": "qatspec.prepare.stage",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _HOME:
        raise AttributeError(f"module 'qatspec.prepare' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


__all__ = ["prepare", "prepare_spec", "set_stage"]
