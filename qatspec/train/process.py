"""Device selection, seeding and determinism of the current process."""

from __future__ import annotations

import hashlib
import os
import random
import re

import numpy as np
import torch

from qatspec.diag.codes import QS907


def pick_device(name: str, rank: int = 0) -> torch.device:
    """Return the device of a name: "auto" (CUDA if available), "cpu", "cuda" (one per process),
    "cuda:1".

    Raises DiagnosticError QS907 for a device that this machine does not have.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if count else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    match = re.fullmatch(r"cuda(?::(\d+))?", name)
    index = int(match[1]) if match and match[1] else rank
    if match is None or index >= count:
        here = "cpu" + "".join(f", cuda:{i}" for i in range(count))
        raise QS907.error(
            f"device `{name}` is not available (process {rank})",
            help=f"choose one of {here}, or `auto`",
        )
    return torch.device("cuda", index)


def make_repeatable(seed: int, stage: str) -> int:
    """Seed every generator from (seed, stage) and request deterministic kernels from torch.

    Returns the seed of the stage, which also decides the data order and the samples.
    """
    derived = int.from_bytes(hashlib.sha256(f"{seed}:{stage}".encode()).digest()[:4], "little")
    random.seed(derived)
    np.random.seed(derived)
    torch.manual_seed(derived)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # asked for by cuBLAS
    torch.use_deterministic_algorithms(True, warn_only=True)
    return derived
