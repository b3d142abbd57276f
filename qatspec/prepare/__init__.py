"""prepare: `passes.py` lists the passes, each in a file of its own. The functions are imported when
they are first used, because `prepare.plugin` must not import torch."""

from __future__ import annotations

from typing import Any

_HOME = {
    "Refused": "qatspec.prepare.pipeline",
    "dump": "qatspec.prepare.listing",
    "graphs_after": "qatspec.prepare.pipeline",
    "prepare": "qatspec.prepare.pipeline",
    "prepare_spec": "qatspec.prepare.pipeline",
    "set_stage": "qatspec.prepare.stage",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _HOME:
        raise AttributeError(f"module 'qatspec.prepare' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


__all__ = ["Refused", "dump", "graphs_after", "prepare", "prepare_spec", "set_stage"]
