"""Codes of results that an earlier run left in the work directory."""

from __future__ import annotations

from qatspec.diag.codes.code import Code

CODES: tuple[Code, ...] = (
    Code(
        "QS930",
        "a result of other settings than the spec has",
        """
The command reads a result that was made with other settings, data or plugins than the spec has
now: the spec was edited since, or another spec used the same work directory. Metrics and files of
that result say nothing about this spec.

**Fix.** Run the spec, which keeps the other result in `.kept` and returns to it when its spec is
run again. `--stale` reads the result as it is.

    qatspec run specs/quickstart.yaml
    qatspec eval specs/quickstart.yaml --stage qat --stale
""",
    ),
    Code(
        "QS931",
        "a damaged file of a finished stage",
        """
A file that a finished stage wrote is missing, or its bytes are not the ones that the stage
recorded. Where another file holds the same bytes (the best checkpoint is one of the epochs', the
last one that of the last epoch), it is restored; where nothing needs the file, the result of the
stage stands without it. No training is repeated. Commands that read such a file refuse it.

**Fix.** Check the disk. Running the spec again restores what can be restored.

    qatspec run specs/quickstart.yaml
""",
    ),
    Code(
        "QS932",
        "the oldest unfinished training is removed from .kept",
        """
Results of other settings are kept in `.kept` of the work directory, up to a number and a size.
Beyond them the oldest are removed. One of these was a training that had not been finished.

**Fix.** Move folders that you want to keep out of `.kept`; moved back, they are found again.

    mv runs/quickstart/.kept/float-0123456789abcdef elsewhere/
""",
    ),
    Code(
        "QS933",
        "no checkpoint of an interrupted training is intact",
        """
The stage was interrupted, and none of the checkpoints in its folder is intact: each is damaged,
differs from its `.sha256`, or lacks the best checkpoint of its training. The stage starts anew, and
the damaged files are kept in `.kept`.

**Fix.** Check the disk. If a copy of a checkpoint exists, put it with its `.sha256` into the
stage's folder and run again.
""",
    ),
    Code(
        "QS935",
        "a record of another version of qatspec",
        """
A finished step leaves `<stage>/step.json`, which says what its results depend on. The one that is
there has another format: an earlier or a later version of qatspec wrote it. Whether its results
still stand cannot be told from it, and they are not replaced unasked.

**Fix.** Keep the work directory for that version, and choose another one for this version.

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
    Code(
        "QS937",
        "the run will not fit on the disk",
        """
Before the first training step, the size of what the run will write is estimated: for each stage
that trains, a checkpoint of each epoch that is judged, `last` and `best`, each with weights,
optimizer state and moving average; the calibrated model; and the files of convert and compile,
which are written once for a trial. It is more than the file system of the work directory has free,
so that the training would end with QS903 hours later.

**Fix.** Free space or choose another `--workdir`. Each judged epoch is kept so that another metric
or decoder can choose among them later; `validate_epochs: 10` judges and keeps every tenth.

    stages:
      float:
        trainer: {epochs: 300, validate_epochs: 10, optimizer: {type: sgd, lr: 0.01}}
""",
    ),
)
