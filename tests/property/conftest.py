"""Random integer programs: every op kind, odd sizes, extreme scales, saturating inputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from qatspec.diag import DiagnosticError
from qatspec.ir import RANGE
from qatspec.lowering import PendingSum, ScaledInts
from qatspec.program import Program, ProgramBuilder
from qatspec.program.requantize import multipliers
from qatspec.types import Arithmetic

ROUNDINGS = ("half_up", "half_even", "floor")


class Grower:
    """Grows one program; every value is small integers of (C, H, W) until it is a tail."""

    def __init__(self, seed: int, kinds: tuple[str, ...] | None = None) -> None:
        self.rng = np.random.default_rng(seed)
        rounding = str(self.rng.choice(ROUNDINGS))
        self.builder = ProgramBuilder("random", None, Arithmetic(rounding=rounding))
        self.dtype = "int16" if self.rng.random() < 0.15 else "int8"
        shape = (self.pick(1, 9), self.pick(3, 12), self.pick(3, 12))
        scale = float(10 ** self.rng.uniform(-3, 1))
        self.live = [
            ScaledInts(self.builder.input("x", self.dtype, shape, scale), np.array([scale]))
        ]
        self.kinds = kinds or tuple(
            n.removeprefix("grow_") for n in sorted(vars(Grower)) if n.startswith("grow_")
        )

    def pick(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def shape(self, term: ScaledInts) -> tuple[int, ...]:
        return self.builder.values[term.value].shape

    def emit(self, kind: str, inputs, scale=1.0, scale_axis=None, **attrs) -> ScaledInts:
        scale = np.atleast_1d(np.asarray(scale, np.float64))
        with np.errstate(over="ignore", under="ignore"):
            real = scale.astype(np.float32)
        good = (np.isfinite(real) & (real > 0)).all()
        name = self.builder.emit(
            kind, inputs, name=kind, scale=real if good else None, scale_axis=scale_axis, **attrs
        )
        return ScaledInts(name, scale, scale_axis)

    def requant(self, total: PendingSum, *, wild: bool = False) -> ScaledInts:
        """Close a sum on a scale near its own range, or (wild) anywhere."""
        low, high = RANGE[self.dtype]
        low, high = sorted((self.pick(low, high), high)) if self.rng.random() < 0.3 else (low, high)
        reach = max(
            float(np.max(np.abs(t.scale))) * max(self.builder.ranges[t.value].magnitude, 1)
            for t in total.terms
        )
        spread = self.rng.uniform(-30, 30) if wild else self.rng.uniform(-2, 0.5)
        scale = float(np.clip(reach / RANGE[self.dtype][1] * 10**spread, 1e-37, 1e37))
        axis = next((t.axis for t in total.terms if t.axis is not None), 1)
        ms, shift = multipliers(
            [t.scale / scale for t in total.terms],
            [self.builder.ranges[t.value] for t in total.terms],
            16,
            axis,
        )
        names = [self.builder.const("m", "int64", m) for m in ms]
        name = self.builder.emit(
            "requant",
            [*(t.value for t in total.terms), *names, self.builder.const("s", "int64", shift)],
            name="q",
            scale=np.float32(scale),
            dtype=self.dtype,
            axis=axis,
            rounding=self.builder.arithmetic.rounding,
            low=low,
            high=high,
        )
        return ScaledInts(name, np.array([scale]))

    def weight(self, *shape: int) -> str:
        low, high = RANGE["int8"]
        if self.rng.random() < 0.2:  # saturating
            return self.builder.const("w", "int8", self.rng.choice([low, high], shape))
        return self.builder.const("w", "int8", self.rng.integers(low, high + 1, shape))

    def accumulate(self, x: ScaledInts) -> ScaledInts:
        c = self.shape(x)[0]
        groups = int(self.rng.choice([g for g in range(1, c + 1) if c % g == 0]))
        out = groups * self.pick(1, 4)
        kernel = (self.pick(1, 3), self.pick(1, 3))
        names = [x.value, self.weight(out, c // groups, *kernel)]
        if self.rng.random() < 0.7:
            bias = self.rng.integers(-(2**30), 2**30, out) >> self.pick(0, 30)
            names.append(self.builder.const("b", "int32", bias))
        scale = x.scale * 10 ** self.rng.uniform(-4, 0, out)
        return self.emit(
            "conv", names, scale, 1,
            stride=(self.pick(1, 2), self.pick(1, 2)),
            padding=tuple(self.pick(0, 2) for _ in range(4)),
            dilation=(1, self.pick(1, 2)) if kernel[1] <= 2 else (1, 1),
            groups=groups,
        )  # fmt: skip

    def grow_conv(self, x: ScaledInts) -> ScaledInts:
        return self.requant(PendingSum((self.accumulate(x),)), wild=self.rng.random() < 0.2)

    def grow_residual(self, x: ScaledInts) -> ScaledInts:
        c = self.shape(x)[0]
        acc = self.emit(
            "conv", [x.value, self.weight(c, c, 1, 1)], x.scale * 10 ** self.rng.uniform(-4, 0, c),
            1, stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=1,
        )  # fmt: skip
        sign = self.rng.choice([-1.0, 1.0])
        return self.requant(PendingSum((acc, ScaledInts(x.value, x.scale * sign))))

    def grow_conv_transpose(self, x: ScaledInts) -> ScaledInts:
        c = self.shape(x)[0]
        groups = int(self.rng.choice([g for g in range(1, c + 1) if c % g == 0]))
        per_group, stride = self.pick(1, 3), (self.pick(1, 3), self.pick(1, 3))
        out = per_group * groups
        acc = self.emit(
            "conv_transpose",
            [x.value, self.weight(c, per_group, self.pick(2, 3), self.pick(2, 3)),
             self.builder.const("b", "int32", self.rng.integers(-999, 999, out))],
            x.scale * 10 ** self.rng.uniform(-4, 0, out), 1,
            stride=stride, padding=tuple(self.pick(0, 1) for _ in range(4)),
            output_padding=(self.pick(0, stride[0] - 1), self.pick(0, stride[1] - 1)),
            dilation=(1, self.pick(1, 2)), groups=groups,
        )  # fmt: skip
        return self.requant(PendingSum((acc,)))

    def grow_linear(self, x: ScaledInts) -> ScaledInts:
        width = self.shape(x)[-1]
        acc = self.emit("linear", [x.value, self.weight(self.pick(3, 9), width)], x.scale * 0.01)
        return self.requant(PendingSum((acc,)))

    def grow_add(self, x: ScaledInts) -> ScaledInts:
        others = [t for t in self.live if self.shape(t) == self.shape(x)]
        other = others[self.pick(0, len(others) - 1)]
        sign = self.rng.choice([-1.0, 1.0])
        total = PendingSum((x, ScaledInts(other.value, other.scale * sign)))
        return self.requant(total, wild=self.rng.random() < 0.3)

    def grow_mul(self, x: ScaledInts) -> ScaledInts:
        gate = x
        if self.rng.random() < 0.5:
            total = self.emit("reduce_sum", [x.value], x.scale, axes=(2, 3), keepdim=True)
            gate = self.requant(PendingSum((total,)))
        return self.requant(
            PendingSum((self.emit("mul", [x.value, gate.value], x.scale * gate.scale),))
        )

    def grow_clamp(self, x: ScaledInts) -> ScaledInts:
        low, high = sorted((self.pick(-128, 127), self.pick(-128, 127)))
        return self.emit("clamp", [x.value], x.scale, low=low, high=high)

    def window(self) -> dict:
        kernel = (self.pick(1, 3), self.pick(1, 3))
        padding = tuple(self.pick(0, k - 1) for k in (*kernel, *kernel))
        return {"kernel": kernel, "stride": (self.pick(1, 2), self.pick(1, 3)), "padding": padding}

    def grow_max_pool(self, x: ScaledInts) -> ScaledInts:
        return self.emit(
            "max_pool", [x.value], x.scale, dilation=(1, self.pick(1, 2)), **self.window()
        )

    def grow_sum_pool(self, x: ScaledInts) -> ScaledInts:
        return self.requant(
            PendingSum((self.emit("sum_pool", [x.value], x.scale / 9, **self.window()),))
        )

    def grow_reduce_max(self, x: ScaledInts) -> ScaledInts:
        axis = self.pick(1, 3)
        return self.emit("reduce_max", [x.value], x.scale, axes=(axis,), keepdim=True)

    def grow_resize_nearest(self, x: ScaledInts) -> ScaledInts:
        size = (self.pick(2, 15), self.pick(2, 15))
        return self.emit("resize_nearest", [x.value], x.scale, size=size)

    def grow_resize_bilinear(self, x: ScaledInts) -> ScaledInts:
        bits = self.pick(1, 11 if self.dtype == "int8" else 7)
        total = self.emit(
            "resize_bilinear", [x.value], x.scale / 4.0**bits,
            size=(self.pick(2, 15), self.pick(2, 15)),
            align_corners=bool(self.rng.random() < 0.5), bits=bits,
        )  # fmt: skip
        return self.requant(PendingSum((total,)))

    def grow_concat(self, x: ScaledInts) -> ScaledInts:
        others = [t for t in self.live if self.shape(t)[1:] == self.shape(x)[1:]]
        other = others[self.pick(0, len(others) - 1)]
        return self.emit("concat", [x.value, other.value], x.scale, axis=1)

    def grow_reshape(self, x: ScaledInts) -> ScaledInts:
        c, h, w = self.shape(x)
        return self.emit("reshape", [x.value], x.scale, shape=(w, c, h))

    def grow_transpose(self, x: ScaledInts) -> ScaledInts:
        perm = (0, *(int(p) + 1 for p in self.rng.permutation(3)))
        return self.emit("transpose", [x.value], x.scale, perm=perm)

    def grow_slice(self, x: ScaledInts) -> ScaledInts:
        axis = self.pick(1, 3)
        size = self.shape(x)[axis - 1]
        start = self.pick(0, size - 1)
        stop, step = self.pick(start + 1, size), self.pick(1, 2)
        return self.emit("slice", [x.value], x.scale, axis=axis, start=start, stop=stop, step=step)

    def grow_pad(self, x: ScaledInts) -> ScaledInts:
        padding = tuple(self.pick(0, 2) for _ in range(4))
        return self.emit("pad", [x.value], x.scale, padding=padding, value=self.pick(-128, 127))

    def grow_lut(self, x: ScaledInts) -> ScaledInts:
        low, high = RANGE[self.dtype]
        names = [x.value]
        if self.dtype == "int16" and self.rng.random() < 0.5:
            shifts = self.rng.integers(0, 9, 256)
            first = np.cumsum(256 >> shifts) - (256 >> shifts)
            table = self.rng.integers(low, high + 1, int(first[-1]) + 257)
            names.append(self.builder.const("table", self.dtype, table))
            names.append(self.builder.const("segments", "int32", first << 4 | shifts))
        else:
            table = self.rng.integers(low, high + 1, high - low + 1)
            names.append(self.builder.const("table", self.dtype, table))
        return self.emit("lut", names, x.scale, dtype=self.dtype)

    def grow_matmul(self, x: ScaledInts) -> ScaledInts:
        y = self.emit("transpose", [x.value], x.scale, perm=(0, 1, 3, 2))
        if self.rng.random() < 0.5:
            x, y = y, x
        if self.rng.random() < 0.3:
            y = self.emit("slice", [y.value], y.scale, axis=1, start=0, stop=1, step=1)
        return self.requant(
            PendingSum((self.emit("matmul", [x.value, y.value], x.scale * y.scale),))
        )

    def quotient(self, x: ScaledInts, y: ScaledInts) -> ScaledInts:
        low, high = RANGE[self.dtype]
        low = self.pick(low, high) if self.rng.random() < 0.3 else low
        return self.emit(
            "divide", [x.value, y.value], x.scale, dtype=self.dtype, low=low, high=high,
            rounding=self.builder.arithmetic.rounding, shift=self.pick(0, 12),
            multiplier=self.pick(0, 1 << self.pick(0, 16)),
        )  # fmt: skip

    def grow_divide(self, x: ScaledInts) -> ScaledInts:
        y = x
        if self.rng.random() < 0.7:
            total = self.emit(
                "reduce_sum", [x.value], x.scale, axes=(self.pick(1, 3),), keepdim=True
            )
            y = total if self.rng.random() < 0.3 else self.requant(PendingSum((total,)))
        return self.quotient(x, y)

    def grow_softmax(self, x: ScaledInts) -> ScaledInts:
        dtype, axis = str(self.rng.choice(["int8", "int16", "int32"])), self.pick(1, 3)
        low, high = RANGE[self.dtype]
        most = min(RANGE[dtype][1], 1 << 20)
        table = self.rng.integers(0, most + 1, high - low + 1)
        if self.rng.random() < 0.5:
            table = np.rint(most * np.exp(-np.arange(high - low + 1) * self.rng.uniform(0, 0.3)))
        names = [x.value, self.builder.const("exp", dtype, table)]
        above = self.emit("exp_below_max", names, 1.0, dtype=dtype, axis=axis)
        below = self.emit("reduce_sum", [above.value], 1.0, axes=(axis,), keepdim=True)
        return self.quotient(above, below)

    def grow_standardize(self, x: ScaledInts) -> ScaledInts:
        axes = tuple(a for a in (1, 2, 3) if self.rng.random() < 0.6) or (self.pick(1, 3),)
        y = self.emit(
            "standardize", [x.value], 2.0**-10, axes=axes, bits=self.pick(0, 14),
            epsilon=self.pick(0, 1 << self.pick(0, 30)), root_bits=self.pick(1, 9),
        )  # fmt: skip
        axis = self.pick(1, 3)
        size = self.shape(y)[axis - 1]
        w = self.builder.const("w", "int8", self.rng.integers(-1, 2, size))
        bias = self.rng.integers(-(2**29), 2**29, size) >> self.pick(0, 29)
        names = [y.value, w, self.builder.const("b", "int32", bias)]
        scale = y.scale * 10 ** self.rng.uniform(-2, 0, size)
        return self.requant(PendingSum((self.emit("affine", names, scale, axis, axis=axis),)))

    def grow_argmax(self, x: ScaledInts) -> ScaledInts:
        axis = self.pick(1, 3)
        y = self.emit("argmax", [x.value], x.scale, axis=axis, keepdim=True)
        return self.requant(PendingSum((y,)))

    def grow(self, ops: int) -> Program:
        for _ in range(ops):
            x = self.live[self.pick(max(len(self.live) - 3, 0), len(self.live) - 1)]
            kind = str(self.rng.choice(self.kinds))
            try:
                y = getattr(self, f"grow_{kind}")(x)
            except ValueError:  # a window larger than its input, an accumulator past int32
                continue
            if np.prod(self.shape(y)) <= 20_000:
                self.live.append(y)
        tail = self.accumulate(self.live[-1]) if self.rng.random() < 0.5 else self.live[-1]
        names = dict.fromkeys([tail.value, *(t.value for t in self.live[-2:])])
        names.pop("x", None)
        names = names or {self.grow_clamp(self.live[0]).value: None}
        kept = [n for n in names if self.builder.values[n].scale is not None]
        return self.builder.finish(kept)

    def images(self, batch: int) -> np.ndarray:
        low, high = RANGE[self.builder.inputs[0].dtype]
        shape = (batch, *self.builder.values["x"].shape)
        if self.rng.random() < 0.3:
            return self.rng.choice([low, high], shape).astype(self.builder.inputs[0].dtype)
        return self.rng.integers(low, high + 1, shape).astype(self.builder.inputs[0].dtype)


@pytest.fixture
def random_program() -> Callable[..., tuple[Program, np.ndarray]]:
    """(seed, ops, kinds=None) -> a random program and integers for its input. unsigned: results
    are uint8 in place of int8."""

    def make(
        seed: int, ops: int = 8, kinds=None, *, unsigned: bool = False
    ) -> tuple[Program, np.ndarray]:
        for attempt in range(50):
            grower = Grower(seed * 1000 + attempt, kinds)
            if unsigned and grower.dtype == "int8":
                grower.dtype = "uint8"
            try:
                program = grower.grow(ops)
            except (ValueError, DiagnosticError):  # sums that leave int32
                continue
            return program, grower.images(1 + seed % 3)
        raise AssertionError("no program grew")

    return make
