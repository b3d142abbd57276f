"""QS94x: scales of another dtype, and what is known before training."""

from __future__ import annotations

from qatspec.diag.codes.code import Code

CODES: tuple[Code, ...] = (
    Code(
        "QS940",
        "scales were converted to another dtype",
        """
A checkpoint's scales hold for the dtype that they were found for: a scale for qint8 on the range of
qint4 would cut off all but a seventeenth of what it covers. Every fake-quant therefore keeps its
range of integers beside its scale (`quant_range`), and a scale is converted where a stage with
another dtype loads it. What the checkpoint's observer found is found again for the new dtype; any
other scale keeps the range of real numbers that it covers.

This is a warning: to calibrate with qint8 and train with qint4 works. Scales that are chosen for
the dtype that is trained are often better.

**Fix.** Give calibration and qat the same dtypes.

    stages:
      calibration: {trainer: {steps: 20}, qconfig: {"": {activation: {dtype: qint4}}}}
      qat:
        qconfig: {"": {activation: {dtype: qint4}}}
""",
    ),
    Code(
        "QS941",
        "a checkpoint does not record the dtype of its scales",
        """
A scale means something only with the dtype that it holds for, which a checkpoint records beside
each scale as `quant_range`. Early versions of qatspec did not write it. Nothing else in such a file
says which dtype it was, so that it is not loaded.

**Fix.** Run the stage that made the checkpoint again.

    qatspec run SPEC --step calibration
""",
    ),
)
