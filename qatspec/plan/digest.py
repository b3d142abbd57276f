"""Digests: sha256 over canonical JSON, so that equal meaning gives equal digests."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import qatspec
from qatspec.diag.codes import QS907
from qatspec.plan.model import PlannedCandidate, Step
from qatspec.registry.plugins import hash_sources
from qatspec.source import written

_BATCH_SIZE = re.compile(r"/data/(?!val/)\w+/batch_size|/stages/\w+/batch_size_per_gpu")
#: Begins the key of a candidate, which holds the digest of its step.
CANDIDATE = "candidate:"
_GPU_FILES = ("nvidia[0-9]*", "dxg", "kfd")


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


def with_environment(keys: Mapping[str, Any]) -> dict[str, Any]:
    """The keys, sorted, with a further one for each whose value comes from the environment: files
    keep the reference alone, which does not tell that a variable has another value."""
    digests = {key: (digest(value), digest(written(value))) for key, value in keys.items()}
    more = {
        f"{key}#environment": digest_here
        for key, (digest_here, shown) in digests.items()
        if digest_here != shown
    }
    return dict(sorted({**keys, **more}.items()))


def digest_of_keys(keys: Mapping[str, Any]) -> str:
    """The digest of a step's keys. A stage's batch size is the same wherever it is written."""
    named = (("batch_size" if _BATCH_SIZE.fullmatch(key) else key, keys[key]) for key in keys)
    return digest(dict(named))


def with_keys(step: Step, more: Mapping[str, Any]) -> Step:
    """The step with further keys, or other values of its keys, under the digest of these."""
    keys = dict(sorted({**step.keys, **more}.items()))
    return replace(step, keys=keys, digest=digest_of_keys(keys))


def starting_from(step: Step, before: str, taken: str) -> Step:
    """The step as it is when what it takes of the finished step `before` has the sha256 `taken`."""
    return with_keys(step, {f"input:{before}": taken})


def tried_step(step: Step, candidates: Iterable[PlannedCandidate]) -> Step:
    """A step that chooses the best of its candidates: it depends on the tensors of all of them."""
    return with_keys(step, {f"{CANDIDATE}{c.name}": c.steps[-1].digest for c in candidates})


def default_threads(processes: int = 1) -> int:
    """Threads that torch is given in each process, known without torch because digests cover them.

    One process computes with as many as OMP_NUM_THREADS says, or as there are cores. Each of
    several computes with one, whatever launcher started it: torchrun sets OMP_NUM_THREADS itself.
    """
    if processes > 1:
        return 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() and int(asked) else len(os.sched_getaffinity(0))


def device_kind(name: str) -> str:
    """The kind of device, "cpu" or "cuda", that `run --device` computes on, without torch.

    name: auto, cpu, cuda or cuda:N. auto is cuda where torch is not a CPU build and a GPU's device
    file is there (NVIDIA, WSL, ROCm) and not hidden by CUDA_VISIBLE_DEVICES, which is what
    torch.cuda.is_available() comes to on a machine whose driver works.
    Raises DiagnosticError QS907 for any other name.
    """
    if name == "auto":
        files = (file for kind in _GPU_FILES for file in Path("/dev").glob(kind))
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1")
        built = not importlib.metadata.version("torch").endswith("+cpu")
        return "cuda" if built and not hidden and any(files) else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        message = f"`{name}` is not a device"
        raise QS907.error(message, help="choose auto, cpu, cuda or cuda:N")
    return name.partition(":")[0]


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _canonical(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(v) for v in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
