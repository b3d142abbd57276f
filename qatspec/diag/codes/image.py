"""QS616 and QS617: `model.input`, how pictures become the model's input."""

from __future__ import annotations

from qatspec.diag.codes.code import Code

CODES: tuple[Code, ...] = (
    Code(
        "QS616",
        "mean or std has another number of entries than the input has channels",
        """
`mean` and `std` of `model.input` are one number for all channels, or a list with one number for
each channel in the order of `format`: red, green, blue for `rgb`; blue, green, red for `bgr`.

**Fix.** Give as many numbers as the input has `channels`, or one number. The values that published
ImageNet weights were trained with, in pixels from 0 to 255:

    model:
      input:
        size: [224, 224]
        mean: [123.675, 116.28, 103.53]
        std: [58.395, 57.12, 57.375]
""",
    ),
    Code(
        "QS617",
        "the fixed scale of the input clips pixels",
        """
`scale` of `model.input` fixes what one step of the input's 8 bits stands for. 8 bits reach from
-128 to 127 times `scale`; a pixel that (pixel - mean) / std takes beyond that is clipped, and
bright or dark parts of every picture are lost. `scale: 0.0078125` (1/128) belongs to
`mean: 128` and `std: 128`, where each pixel has an integer of its own.

**Fix.** Delete `scale`, so that calibration finds it, or write the one that the message gives:

    model:
      input: {size: [224, 224], mean: [123.675, 116.28, 103.53], std: [58.395, 57.12, 57.375]}
""",
    ),
)
