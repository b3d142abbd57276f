"""Device selection, seeding, determinism and memory of the current process."""

from __future__ import annotations

import ctypes
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
    # As use_deterministic_algorithms(True, warn_only=True), without its import of the compiler.
    torch.set_deterministic_debug_mode("warn")
    fill_new_memory(False)
    return derived


def fill_new_memory(wanted: bool) -> None:
    """Let torch write NaN into each tensor that is allocated without values, while deterministic
    kernels are requested; it is torch's default and took 9 to 13 % of a training step.

    Results differ only where a program reads memory that it did not write.
    """
    torch.utils.deterministic.fill_uninitialized_memory = wanted  # type: ignore[attr-defined]


#: Parameters of mallopt (malloc.h of glibc): the size from which an allocation is mapped by itself
#: (its maximum), and the free memory at the end of the heap that goes back to the system.
_MMAP_THRESHOLD, _TRIM_THRESHOLD = (-3, 1 << 25), (-1, (1 << 31) - 1)


def keep_freed_memory() -> bool:
    """Let the C library keep the memory of freed tensors for the next ones, instead of returning it
    to the system and receiving it page by page again. One run each way took 3 to 9 % less CPU time
    for a training step. Nothing is done where variables of the environment set up malloc.

    Returns whether the C library took the settings; it has to be glibc.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(
        mallopt(*each) for each in (_MMAP_THRESHOLD, _TRIM_THRESHOLD)
    )
