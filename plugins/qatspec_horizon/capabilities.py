"""What bernoulli2, bayes and bayes_e can do, as data.

`ops` holds, per integer op, the dtypes it takes and gives and the limits of the op's measures
(`qatspec.backend.legalise` measures and checks). Source of the limits: the tables of supported
operators in the public D-Robotics toolchain documentation ("supported_op_list", RDK X3 and RDK
Ultra). Moves carry no limit of their own.

`hardware` holds the figures of the model of time. Core counts and clock are printed by the vendor;
MACs a cycle, on-chip memory, effective DDR bandwidth and overheads are printed nowhere: these are
constants fitted to published times; `fitted` names the rows that each rests on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qatspec.api import (
    RUNTIME_INPUT,
    TILED_OPTIONS,
    Arithmetic,
    Capabilities,
    Hardware,
    HostCpu,
    Limit,
    OpSupport,
)

#: 16-bit multipliers and one rounding at the end. The vendor's tie rule is not public; half up
#: (floor(x + 1/2)) is what integer hardware commonly does, and is an assumption of qatspec.
ARITHMETIC = Arithmetic(multiplier_bits=16, rounding="half_up")

OPTIONS: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        **TILED_OPTIONS,
        "cores": {
            **TILED_OPTIONS["cores"],
            "maximum": 2,
            "description": "cores that one frame is split over; 1 gives the published latencies",
        },
        **RUNTIME_INPUT,
    },
}

#: Its table of operators states at most 128 frames.
BERNOULLI2_OPTIONS: Mapping[str, Any] = {
    **OPTIONS,
    "properties": {
        **OPTIONS["properties"],
        "batch": {**TILED_OPTIONS["batch"], "maximum": 128},
    },
}

ONE_CORE_OPTIONS: Mapping[str, Any] = {
    **OPTIONS,
    "properties": {**OPTIONS["properties"], "cores": TILED_OPTIONS["cores"]},
}

#: O1 finds a place on chip for every layer that any other level places, without planning what to
#: keep there; the frame that `verify` runs tells of faults in the compiler alone.
TRIAL_OPTIONS: Mapping[str, Any] = {"opt": "O1", "verify": False}


_MOVES = OpSupport(dtypes=("int8", "int16", "int32"))

_OWN_STATISTICS = "the chip has no such norm; a batch norm is folded"
_SOFTMAX = "the chip has no softmax; a sigmoid runs on it"
_LOG_SOFTMAX = "the chip has no logarithm of a softmax; a softmax runs on it"
_PLACES = "the chip finds no places of extremes"
_QUOTIENTS = "the chip has no quotient of two activations"
_PRODUCTS = "the chip has no product of two activations; convolutions run on it"
#: What runs on the CPU: norms over the input's own statistics, logarithms of a softmax and places
#: of extremes are in no table of the chips. The vendor's converter leaves a softmax to the CPU
#: unless it is told otherwise; D-Robotics' published nets for RDK X5 are converted with it on the
#: chip (`set_Softmax_input_int8`), as are products of two activations (`HzSQuantizedMatmul`).
_BAYES_HOST_OPS: Mapping[str, str] = {
    "log_softmax": _LOG_SOFTMAX,
    "layer_norm": _OWN_STATISTICS,
    "group_norm": _OWN_STATISTICS,
    "instance_norm": _OWN_STATISTICS,
    "instance_norm1d": _OWN_STATISTICS,
    "instance_norm2d": _OWN_STATISTICS,
    "instance_norm3d": _OWN_STATISTICS,
    "standardize": _OWN_STATISTICS,
    "affine": _OWN_STATISTICS,
    "argmax": _PLACES,
}

_FITTED = "tables are fitted to it on bayes alone; relu runs on the chip"
#: Softmax and Reduce on the CPU, "SiLU/GELU/exp are LUT-fits only on Bayes", ELU on the CPU (RDK
#: supported_op_list).
_BERNOULLI2_HOST_OPS: Mapping[str, str] = {
    **_BAYES_HOST_OPS,
    "softmax": _SOFTMAX,
    "log_softmax": _SOFTMAX,
    "exp_below_max": _SOFTMAX,
    "matmul": _PRODUCTS,
    "divide": _QUOTIENTS,
    "silu": _FITTED,
    "gelu": _FITTED,
    "exp": _FITTED,
    "elu": "the chip has no ELU; relu runs on it",
    "reduce_max": "the chip has no largest number of whole dims",
}

#: X3: both figures are fitted on the rows marked fit whose activations are on its CPU (RepViT,
#: YOLOv5n v7.0 and YOLOv8n-seg), with the least mean error. X5 (and by assumption Journey 5):
#: YOLO11n takes 16.6 ms longer with its softmax of 320,000 numbers on the CPU (D-Robotics' page of
#: YOLO11); its hand-over is assumed.
BERNOULLI2_HOST = HostCpu(ops=_BERNOULLI2_HOST_OPS, elements_per_us=915, start_us=370)
BAYES_HOST = HostCpu(ops=_BAYES_HOST_OPS, elements_per_us=135, start_us=40)

BERNOULLI2 = Capabilities(
    host=BERNOULLI2_HOST,
    hardware=Hardware(
        cores=2,
        clock_mhz=1000,
        macs_per_cycle=255,
        depthwise_macs_per_cycle=256,
        vector_lanes=6,
        onchip_bytes=1024 * 1024,
        ddr_bytes_per_us=9500,
        start_overhead_us=3.5,
        run_overhead_us=0.0,
        table_lanes=2.7,
        ddr_stall=0.45,
        align_width=8,
        align_channels_in=4,
        align_channels_out=4,
        accuracy="8 rows that were not fitted: 7 % median, 66 % worst",
        fitted={
            "macs_per_cycle": "dump: X3 layer table, 1x1 convs at 254-256 MAC/ns",
            "depthwise_macs_per_cycle": "dump: X3 layer table, depthwise 3x3 at 256 MAC/ns",
            "vector_lanes": "dump: X3 layer table, 150,528 numbers in 25 us of preprocessing",
            "table_lanes": "fitted: YOLOv5s v2.0, whose leaky ReLUs are tables",
            "ddr_stall": "fitted: rows marked fit (README); the X3 layer table adds traffic to "
            "computing in full",
            "onchip_bytes": "assumed: the X3 layer table moves some 0.4 MB features of MobileNetV1",
            "ddr_bytes_per_us": "dump: X3 layer table, large weight loads at 9.4-9.7 GB/s",
            "start_overhead_us": "fitted: rows marked fit (README)",
            "clock_mhz": "printed: the X3M tables are measured at 1 GHz",
        },
    ),
    max_lsb={"resize_bilinear": 1, "sum_pool": 1},
    ops={
        "conv": OpSupport(
            dtypes=("int8",),
            weights=("int8",),
            limits=(
                Limit(of="kernel", low=1, high=7),
                Limit(of="channels_in_per_group", high=2048, unless_groups=1),
                Limit(of="channels_in_per_group", high=4096),
                Limit(of="channels_out", high=4096),
                Limit(of="kernel_volume", high=32768),
                Limit(of="dilation", power_of_two=True),
                Limit(of="stride_with_residual", low=1, high=2),
            ),
        ),
        "conv_transpose": OpSupport(
            dtypes=("int8",),
            weights=("int8",),
            limits=(
                Limit(of="kernel", low=2, high=14),
                Limit(of="stride", one_of=(2, 4)),
                Limit(of="channels_in_per_group", high=2048),
            ),
        ),
        "linear": OpSupport(
            dtypes=("int8",),
            weights=("int8",),
            limits=(Limit(of="channels_in_per_group", high=32768),),
        ),
        "requant": OpSupport(dtypes=("int8", "int32"), results=("int8",)),
        "mul": OpSupport(dtypes=("int8",), limits=(Limit(of="channels", high=2048),)),
        "clamp": OpSupport(dtypes=("int8", "int32")),
        "max_pool": OpSupport(dtypes=("int8",), limits=(Limit(of="kernel", low=1, high=64),)),
        "sum_pool": OpSupport(dtypes=("int8",), limits=(Limit(of="kernel", low=1, high=7),)),
        "reduce_sum": OpSupport(dtypes=("int8",), limits=(Limit(of="area", high=8192),)),
        "resize_nearest": OpSupport(
            dtypes=("int8",), limits=(Limit(of="scale_factor", power_of_two=True),)
        ),
        "resize_bilinear": OpSupport(
            dtypes=("int8",),
            limits=(
                Limit(of="scale_factor", power_of_two=True),
                Limit(of="align_corners", high=0),
            ),
        ),
        # the vendor's limit of 2,048 channels is one of a copy; channels lie side by side in memory
        # here, and what is copied all the same is copied part by part
        "concat": OpSupport(dtypes=("int8", "int32")),
        "reshape": _MOVES,
        "transpose": _MOVES,
        "slice": _MOVES,
        "pad": _MOVES,
        "lut": OpSupport(dtypes=("int8",), results=("int8",)),
    },
)

BAYES = Capabilities(
    host=BAYES_HOST,
    hardware=Hardware(
        cores=2,
        clock_mhz=1000,
        macs_per_cycle=4096,
        depthwise_macs_per_cycle=512,
        vector_lanes=256,
        onchip_bytes=2 * 1024 * 1024,
        ddr_bytes_per_us=8030,
        start_overhead_us=2.0,
        run_overhead_us=0.0,
        softmax_lanes=1.0,
        align_width=8,
        align_channels_in=4,
        align_channels_out=8,
        accuracy="not fitted: published times disagree by half among themselves",
        fitted={
            "clock_mhz": "assumed: 1 GHz as on RDK X5 and S100, not printed for Journey 5",
            "macs_per_cycle": "dump: MobileNetV2 32x32, 1x1 convs up to 4,044 MAC/ns",
            "depthwise_macs_per_cycle": "dump: MobileNetV2 32x32, depthwise 260-640 MAC/ns",
            "vector_lanes": "assumed: half the depthwise rate",
            "softmax_lanes": "assumed: that of RDK X5 in the ratio of the arrays",
            "onchip_bytes": "assumed: MobileNetV1 224 stores 130,688 B, so features stay on chip",
            "ddr_bytes_per_us": "dump: MobileNetV2 32x32, 8.03 GB/s sustained",
            "start_overhead_us": "dump: MobileNetV2 32x32, one frame takes 0.3766 ms for 2.366 MiB",
        },
    ),
    max_lsb={"resize_bilinear": 1, "sum_pool": 1},
    ops={
        "conv": OpSupport(
            dtypes=("int8", "int16"),
            weights=("int8",),
            limits=(
                Limit(of="kernel", low=1, high=31),
                Limit(of="channels_in_per_group", high=8192),
                Limit(of="channels_out", high=8192),
                Limit(of="kernel_volume", high=65535),
                Limit(of="stride", low=1, high=256),
                Limit(of="stride_with_residual", low=1, high=2),
                Limit(of="dilation", low=1, high=16),
                Limit(of="stride_with_dilation", high=1),
                Limit(of="padding", high=256),
            ),
        ),
        "conv_transpose": OpSupport(
            dtypes=("int8", "int16"),
            weights=("int8",),
            limits=(
                Limit(of="kernel", low=1, high=31),
                Limit(of="channels_in_per_group", high=8192),
                Limit(of="stride", low=1, high=256),
            ),
        ),
        "linear": OpSupport(
            dtypes=("int8", "int16"),
            weights=("int8",),
            limits=(Limit(of="channels_in_per_group", high=65535),),
        ),
        "requant": OpSupport(dtypes=("int8", "int16", "int32"), results=("int8", "int16")),
        "mul": OpSupport(dtypes=("int8", "int16")),
        "clamp": OpSupport(dtypes=("int8", "int16", "int32")),
        "max_pool": OpSupport(
            dtypes=("int8", "int16"), limits=(Limit(of="kernel", low=1, high=256),)
        ),
        "sum_pool": OpSupport(
            dtypes=("int8", "int16"), limits=(Limit(of="kernel", low=1, high=256),)
        ),
        "matmul": OpSupport(dtypes=("int8", "int16")),
        "exp_below_max": OpSupport(dtypes=("int8", "int16")),
        "divide": OpSupport(dtypes=("int8", "int16", "int32"), results=("int8", "int16")),
        "reduce_sum": OpSupport(dtypes=("int8", "int16", "int32")),
        "reduce_max": OpSupport(dtypes=("int8", "int16")),
        "resize_nearest": OpSupport(dtypes=("int8", "int16")),
        "resize_bilinear": OpSupport(dtypes=("int8",)),
        "concat": OpSupport(dtypes=("int8", "int16", "int32")),
        "reshape": _MOVES,
        "transpose": _MOVES,
        "slice": _MOVES,
        "pad": _MOVES,
        "lut": OpSupport(dtypes=("int8", "int16"), results=("int8", "int16")),
    },
)

_X5 = "rows of RDK X5 marked fit (README)"
#: RDK X5. The vendor prints one core, 1 GHz and 10 TOPS; no public table holds its limits of ops,
#: which are assumed to be those of bayes.
BAYES_E = Capabilities(
    host=BAYES_HOST,
    hardware=Hardware(
        cores=1,
        clock_mhz=1000,
        macs_per_cycle=1650,
        depthwise_macs_per_cycle=128,
        vector_lanes=8,
        onchip_bytes=2 * 1024 * 1024,
        ddr_bytes_per_us=5600,
        start_overhead_us=1.2,
        run_overhead_us=0.0,
        port_bytes_per_cycle=30,
        softmax_lanes=0.33,
        align_width=8,
        align_channels_in=4,
        align_channels_out=8,
        accuracy="39 rows that were not fitted: 5 % median, 51 % worst",
        fitted={
            "macs_per_cycle": f"fitted: {_X5}",
            "depthwise_macs_per_cycle": f"fitted: {_X5}",
            "vector_lanes": f"fitted: {_X5}",
            "softmax_lanes": f"fitted: {_X5}",
            "ddr_bytes_per_us": f"fitted: {_X5}",
            "start_overhead_us": f"fitted: {_X5}",
            "port_bytes_per_cycle": f"fitted: {_X5}",
            "onchip_bytes": "assumed: from 2 MiB on the large detectors are bound by compute",
            "align_width": "printed: D-Robotics' hints on the shapes that X5 pads",
            "align_channels_in": "printed: D-Robotics' hints on the shapes that X5 pads",
            "align_channels_out": "printed: D-Robotics' hints on the shapes that X5 pads",
        },
    ),
    max_lsb=BAYES.max_lsb,
    ops=BAYES.ops,
)
