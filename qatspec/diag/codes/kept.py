"""Codes of results that an earlier run left in the work directory."""

from __future__ import annotations

from qatspec.diag.codes.code import Code

CODES: tuple[Code, ...] = (
    Code(
        "QS935",
        "a record of another version of qatspec",
        """
A finished step leaves `<stage>/step.json`, which says what its results depend on. The one that is
there has another format: an earlier or a later version of qatspec wrote it. Whether its results
still stand cannot be told from it, and they are not replaced unasked.

**Fix.** Keep them and choose another work directory, or delete the stage's folder to make its
results anew.

    qatspec run SPEC --workdir runs/again
""",
    ),
    Code(
        "QS936",
        "kept epochs are missing",
        """
The metric, `data.val` or the decoder's settings changed, so that the kept epochs of a finished
training are judged again and the best one is chosen again, without training. Some of their
checkpoints were deleted or are damaged since: one of them might have been the best under the new
settings. The best of the others is chosen.

**Fix.** Nothing needs to be done where the best of the others is good enough. To have every epoch
again, delete the stage's folder and run the stage again.
""",
    ),
)
