"""QS952: processes that end before their work is done."""

from __future__ import annotations

from qatspec.diag.codes.code import Code

CODES: tuple[Code, ...] = (
    Code(
        "QS952",
        "a data loader worker died",
        """
A data role with `workers: N` reads its examples in N processes, and one of them ended before its
work was done. SIGKILL is the system's out-of-memory killer, or somebody's `kill -9`; SIGBUS means
that `/dev/shm`, through which batches are passed, is full; SIGSEGV is an error of a native library,
most often of a picture decoder. Training has saved its last regular checkpoint.

**Fix.** Lower `workers`, `batch_size` or the size of the pictures, and run the same command again;
it goes on from the last checkpoint, with the same result. `workers: 0` reads in the main process.

    data:
      train: {type: coco_detection, workers: 0, params: {root: ../coco, split: train2017}}
""",
    ),
)
