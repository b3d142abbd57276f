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
    Code(
        "QS942",
        "a data set gives pictures of another shape than the model takes",
        """
Before the first training step, one picture of every data role is compared with `model.input`. The
number of channels must agree in every role. The pictures of `data.val` must also have the size of
`model.input` where the spec converts: a compiled program takes one size, and is judged on them.
Training pictures may have another size.

**Fix.** Give the data set and `model.input` the same size and channels.

    model:
      input: {size: [512, 512], channels: 3}
    data:
      val: {type: coco_detection, params: {size: [512, 512]}}
""",
    ),
    Code(
        "QS943",
        "a batch norm trains on one number a channel",
        """
In training mode a batch norm takes mean and variance of a batch. With one picture in a batch, and
one number a channel and picture (behind a global pooling, or where a map has shrunk to 1 x 1),
there is no variance.

**Fix.** Train on batches of two pictures or more.

    data:
      qat: {batch_size: 2}
""",
    ),
)
