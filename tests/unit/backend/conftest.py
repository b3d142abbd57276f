"""Small integer programs that the tests of the backend share, and a made-up target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from qatspec.backend import Target
from qatspec.ir import Provenance
from qatspec.program import Program, ProgramBuilder
from qatspec.types import Hardware, OpSupport


class Net:
    """A ProgramBuilder with the layers of a net and seeded weights."""

    def __init__(self, name: str = "net", march: str | None = None, seed: int = 0) -> None:
        self.builder = ProgramBuilder(name, march)
        self.rng = np.random.default_rng(seed)
        self.count = 0

    def input(self, *shape: int, dtype: Any = "int8") -> str:
        return self.builder.input("image", dtype, shape, 1 / 128)

    def emit(self, kind: str, inputs: Sequence[str], **attrs: Any) -> str:
        self.count += 1
        module = f"{kind}_{self.count}"
        origin = Provenance(
            module=module, node=module, source=f"net.py:{self.count}", rule=f"/rules/{self.count}"
        )
        return self.builder.emit(kind, inputs, name=module, scale=0.05, origin=origin, **attrs)

    def const(self, dtype: Any, array: Any) -> str:
        self.count += 1
        return self.builder.const(f"c{self.count}", dtype, array)

    def channels(self, x: str) -> int:
        return self.builder.values[x].shape[0]

    def weight(self, *shape: int) -> str:
        return self.const("int8", self.rng.integers(-128, 128, shape))

    def conv(
        self,
        x: str,
        out: int,
        kernel: int = 3,
        stride: int = 1,
        padding: int | None = None,
        dilation: int = 1,
        groups: int = 1,
        relu: bool = True,
    ) -> str:
        return self.requant(
            self.raw_conv(x, out, kernel, stride, padding, dilation, groups), relu=relu
        )

    def raw_conv(
        self,
        x: str,
        out: int,
        kernel: int = 3,
        stride: int = 1,
        padding: int | None = None,
        dilation: int = 1,
        groups: int = 1,
    ) -> str:
        pad = dilation * (kernel // 2) if padding is None else padding
        w = self.weight(out, self.channels(x) // groups, kernel, kernel)
        bias = self.const("int32", self.rng.integers(-5000, 5000, out))
        return self.emit(
            "conv",
            [x, w, bias],
            stride=(stride, stride),
            padding=(pad,) * 4,
            dilation=(dilation,) * 2,
            groups=groups,
        )

    def requant(
        self, *xs: str, relu: bool = False, per_channel: bool = True, dtype: str = "int8"
    ) -> str:
        size = self.channels(xs[0]) if per_channel else 1
        bits = {"int8": 0, "int32": 14}[self.builder.values[xs[0]].dtype]
        scales = [self.const("int64", self.rng.integers(1000, 30000, size)) for _ in xs]
        shift = self.const("int64", self.rng.integers(12 + bits // 2, 15 + bits // 2, size))
        low, high = {"int8": (-128, 127), "int16": (-32768, 32767)}[dtype]
        return self.emit(
            "requant",
            [*xs, *scales, shift],
            dtype=dtype,
            axis=1,
            rounding="half_up",
            low=0 if relu else low,
            high=high,
        )

    def add(self, a: str, b: str) -> str:
        return self.requant(a, b, per_channel=False)

    def finish(self, *outputs: str) -> Program:
        return self.builder.finish(outputs)


def residual(size: int = 20, march: str | None = None) -> Program:
    """Convs, depthwise, a residual fused behind a conv, two outputs of int8 and int32."""
    net = Net("residual", march)
    x = net.input(3, size, size + 3)
    stem = net.conv(x, 12, stride=2)
    wide = net.conv(stem, 24, kernel=1)
    deep = net.conv(wide, 24, groups=24)
    narrow = net.raw_conv(deep, 12, kernel=1)
    summed = net.requant(narrow, stem)
    tail = net.raw_conv(summed, 5, kernel=3)
    return net.finish(summed, tail)


def every_op(march: str | None = None) -> Program:
    """A program with every kind that the Horizon marches run."""
    net = Net("every_op", march)
    x = net.input(4, 18, 14)
    a = net.conv(x, 16, kernel=5, padding=2)
    grouped = net.conv(a, 24, groups=4)
    dilated = net.conv(grouped, 16, dilation=2)
    pooled = net.emit(
        "max_pool",
        [dilated],
        kernel=(3, 3),
        stride=(2, 2),
        padding=(1, 1, 1, 1),
        dilation=(1, 1),
    )
    summed = net.requant(
        net.emit("sum_pool", [a], kernel=(2, 2), stride=(2, 2), padding=(0, 0, 0, 0))
    )
    table = net.const("int8", net.rng.integers(-128, 128, 256))
    curved = net.emit("lut", [net.add(pooled, summed), table], dtype="int8")
    gate = net.requant(net.emit("reduce_sum", [curved], axes=(2, 3), keepdim=True))
    gated = net.requant(net.emit("mul", [curved, gate]))
    clamped = net.emit("clamp", [gated], low=-20, high=77)
    up = net.emit("resize_nearest", [clamped], size=(18, 14))
    joined = net.emit("concat", [up, a], axis=1)
    part = net.emit("slice", [joined], axis=1, start=3, stop=29, step=2)
    padded = net.emit("pad", [part], padding=(1, 0, 2, 1), value=-3)
    smooth = net.requant(
        net.emit("resize_bilinear", [part], size=(36, 28), align_corners=False, bits=8)
    )
    weight = net.weight(16, 6, 4, 4)
    raised = net.requant(
        net.emit(
            "conv_transpose",
            [clamped, weight],
            stride=(2, 2),
            padding=(1, 1, 1, 1),
            output_padding=(0, 0),
            dilation=(1, 1),
            groups=1,
        )
    )
    turned = net.emit("transpose", [raised], perm=(0, 2, 3, 1))
    flat = net.emit("reshape", [gate], shape=(16,))
    classes = net.emit(
        "linear", [flat, net.weight(10, 16), net.const("int32", net.rng.integers(-99, 99, 10))]
    )
    return net.finish(padded, smooth, turned, classes)


def frames(program: Program, count: int = 2, seed: int = 1) -> list[np.ndarray]:
    """Seeded integers over the whole range of int8 for every input port."""
    rng = np.random.default_rng(seed)
    return [rng.integers(-128, 128, (count, *p.shape), np.int8) for p in program.inputs]


ALL = OpSupport(dtypes=("int8", "int16", "int32"), weights=("int8",))
KINDS = (
    "conv", "conv_transpose", "linear", "requant", "mul", "clamp", "max_pool", "sum_pool",
    "reduce_sum", "resize_nearest", "resize_bilinear", "concat", "reshape", "transpose", "slice",
    "pad", "lut", "matmul", "exp_below_max", "divide",
)  # fmt: skip


def make_target(onchip: int = 1 << 20, **changes: Any) -> Target:
    """A march that runs everything, in round figures."""
    figures: dict[str, Any] = {
        "cores": 2,
        "clock_mhz": 1000,
        "macs_per_cycle": 256,
        "depthwise_macs_per_cycle": 64,
        "vector_lanes": 16,
        "onchip_bytes": onchip,
        "ddr_bytes_per_us": 1000,
        "start_overhead_us": 0.5,
        "run_overhead_us": 2.0,
        "align_width": 8,
        "align_channels_in": 4,
        "align_channels_out": 8,
    }
    rest = {"march": "bayes", "version": 1, "ops": dict.fromkeys(KINDS, ALL), "host": None}
    rest |= {key: changes.pop(key) for key in tuple(changes) if key in rest}
    return Target(hardware=Hardware(**(figures | changes)), **rest)


@pytest.fixture
def net() -> type[Net]:
    return Net


@pytest.fixture
def target() -> Any:
    return make_target


@pytest.fixture
def small() -> Program:
    return residual()


@pytest.fixture
def full() -> Program:
    return every_op()


@pytest.fixture
def noise() -> Any:
    return frames
