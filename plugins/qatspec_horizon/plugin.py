"""What this plugin registers: the Horizon presets, the marches bernoulli2, bayes and bayes_e, and
nash_e, nash_m and nash_p as far as facts allow.

The names in `aliases` are those of the community QAT tutorial.
"""

from __future__ import annotations

from collections.abc import Iterable

from qatspec.api import (
    March,
    PrepareConfig,
    PrepareConfigDef,
    QConfig,
    QConfigDef,
    QSpec,
    hookimpl,
    lazy,
    tiled_march,
)
from qatspec_horizon.capabilities import (
    ARITHMETIC,
    BAYES,
    BAYES_E,
    BERNOULLI2,
    BERNOULLI2_OPTIONS,
    ONE_CORE_OPTIONS,
    OPTIONS,
    TRIAL_OPTIONS,
)
from qatspec_horizon.nash import EXPERIMENTAL, NASH_E, NASH_M, NASH_P

#: What convert writes for the vendor's tools.
HANDOFFS = {"horizon": lazy("qatspec_horizon.handoff:mapper_configuration")}

#: Weights: int8 per output channel; the range follows the weight at every step (constant 1).
WEIGHT = QSpec(observer="moving_average", averaging_constant=1.0, ch_axis=0)


@hookimpl
def qatspec_qconfigs() -> Iterable[QConfigDef]:
    return [
        QConfigDef(
            name="horizon_calibration",
            summary="observe activations by percentile 99.99 over 2,048 bins; weights untouched",
            config=QConfig(
                activation=QSpec(
                    observer="percentile", percentile=99.99, bins=2048, fake_quant="fixed"
                ),
                weight=WEIGHT,
            ),
            aliases=("HorizonCalibrationQConfig",),
        ),
        QConfigDef(
            name="horizon_calibrated",
            summary="qat after a calibration: activation scales fixed, weights follow",
            config=QConfig(
                activation=QSpec(observer="moving_average", fake_quant="fixed"), weight=WEIGHT
            ),
            aliases=("HorizonCalibratedQConfig",),
            needs_calibration=True,
        ),
        QConfigDef(
            name="horizon_qat",
            summary="qat without a calibration: activation scales move with constant 0.01",
            config=QConfig(
                activation=QSpec(observer="moving_average", averaging_constant=0.01), weight=WEIGHT
            ),
            aliases=("HorizonQConfig",),
        ),
    ]


@hookimpl
def qatspec_prepare_configs() -> Iterable[PrepareConfigDef]:
    return [
        PrepareConfigDef(
            name="horizon",
            summary="shared convs tied; ops that the march leaves to the CPU are quantized too",
            config=PrepareConfig(march_preset=True, shared_conv="tied"),
            aliases=("HorizonPrepareCustomConfigDict",),
        )
    ]


@hookimpl
def qatspec_marches() -> Iterable[March]:
    return [
        tiled_march(
            name="bernoulli2",
            summary="Journey 3, X3M, RDK X3: int8, 256 MACs a cycle and core",
            version=5,
            chips=("xj3", "j3", "x3", "x3m", "x3pi", "rdk_x3"),
            arithmetic=ARITHMETIC,
            capabilities=BERNOULLI2,
            options=BERNOULLI2_OPTIONS,
            trial_options=TRIAL_OPTIONS,
            handoffs=HANDOFFS,
        ),
        tiled_march(
            name="bayes",
            summary="Journey 5, RDK Ultra: int8 and int16, 4,096 MACs a cycle and core",
            version=5,
            chips=("j5", "ultra", "rdk_ultra"),
            arithmetic=ARITHMETIC,
            capabilities=BAYES,
            options=OPTIONS,
            trial_options=TRIAL_OPTIONS,
            handoffs=HANDOFFS,
        ),
        tiled_march(
            name="bayes_e",
            summary="RDK X5: int8 and int16, one core; its limits of ops are assumed to be bayes'",
            version=5,
            chips=("x5", "rdk_x5"),
            arithmetic=ARITHMETIC,
            capabilities=BAYES_E,
            options=ONE_CORE_OPTIONS,
            trial_options=TRIAL_OPTIONS,
            handoffs=HANDOFFS,
        ),
        *(
            tiled_march(
                name=name,
                summary=f"{chips}: experimental, int8 and int16; its limits are assumed",
                version=2,
                chips=names,
                experimental=EXPERIMENTAL,
                arithmetic=ARITHMETIC,
                capabilities=capabilities,
                options=ONE_CORE_OPTIONS,
                trial_options=TRIAL_OPTIONS,
            )
            for name, chips, names, capabilities in (
                ("nash_e", "Journey 6E, RDK S100", ("j6e", "s100", "rdk_s100"), NASH_E),
                ("nash_m", "Journey 6M, RDK S100P", ("j6m", "s100p", "rdk_s100p"), NASH_M),
                ("nash_p", "Journey 6P, RDK S600", ("j6p", "s600", "rdk_s600"), NASH_P),
            )
        ),
    ]
