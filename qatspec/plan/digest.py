"""Digests: sha256 over canonical JSON, so that equal meaning gives equal digests (contracts 6)."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import qatspec
from qatspec.plan.model import Step
from qatspec.registry.plugins import hash_sources


def digest(value: Any) -> str:
    """sha256 of `value` as canonical JSON: sorted keys, no spaces, 128.0 written as 128."""
    text = json.dumps(
        _canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def software() -> dict[str, str]:
    """What computes: qatspec itself with the hash of its sources, and torch, without importing
    torch."""
    return {
        "qatspec": f"{qatspec.__version__} {hash_sources(qatspec)}",
        "torch": importlib.metadata.version("torch"),
    }


def starting_from(step: Step, before: str, actual: str) -> Step:
    """The step as it is when it starts from a result of `before` with the digest `actual`."""
    keys = {**step.keys, f"input:{before}": actual}
    return replace(step, keys=keys, digest=digest(keys))


def default_threads() -> int:
    """Threads that torch is given, known without torch because digests cover them."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() and int(asked) else len(os.sched_getaffinity(0))


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _canonical(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(v) for v in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
