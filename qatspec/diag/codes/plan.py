"""QS4xx: the plan."""

from __future__ import annotations

from qatspec.diag.codes.code import Code

CODES: tuple[Code, ...] = (
    Code(
        "QS401",
        "fixed activation scales without a calibration",
        """\
The preset takes its activation scales from a calibration and keeps them fixed (the tutorial's
HorizonCalibratedQConfig), but the spec has no calibration that this stage starts from. The scales
would stay at their initial value and the model would be ruined.

**Mend.** Add `stages.calibration`, or use `qconfig: horizon_qat`, which observes activations
while it trains.
""",
    ),
    Code(
        "QS402",
        "a stage has nothing to start from",
        """\
calibration and qat start from an earlier stage's checkpoint, convert from qat or calibration,
compile from convert. The spec has no such stage.

**Mend.** Add the stage that the message names.
""",
    ),
    Code(
        "QS403",
        "a pre_step that is not an earlier stage",
        """\
`solver.pre_step` names the stage whose checkpoint this one starts from: it must be in the spec,
and come before in the order float, calibration, qat.

**Mend.** Name such a stage, or leave `pre_step` out: the nearest earlier stage is taken.
""",
    ),
    Code(
        "QS404",
        "a module without a qconfig",
        """\
Every module that a stage prepares needs a qconfig: its own, or the stage's default. Without one
it is not known how to quantize it.

**Mend.** Give the stage a default: `stages.qat.qconfig: horizon_calibrated`.
""",
    ),
)
