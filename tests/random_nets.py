"""Random nets of torch ops, with scales from ordinary to absurd: what `lower` must take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.graph import Prepared
from qatspec.quant.fake_quant import FakeQuantize
from tests.nets import settle

#: (activation, weight) dtypes whose sums of products stay inside int32.
DTYPES = (
    ("qint8", "qint8"), ("qint8", "qint8"), ("qint8", "qint8"), ("qint8", "qint4"),
    ("qint8", "qint16"), ("qint16", "qint8"), ("qint4", "qint8"),
)  # fmt: skip
MOST = 4000  # elements of a value, batch included


class Step(nn.Module):
    """One op: a function of the values it reads and of its own modules and parameters."""

    def __init__(self, reads: tuple[int, ...], function: Callable[..., Tensor], *own: Any) -> None:
        super().__init__()
        self.reads, self.function = reads, function
        self.modules_ = nn.ModuleList([o for o in own if isinstance(o, nn.Module)])
        self.tensors = nn.ParameterList([o for o in own if isinstance(o, Tensor)])

    def forward(self, *values: Tensor) -> Tensor:
        return self.function(*values, *self.modules_, *self.tensors)


class RandomNet(nn.Module):
    """`ops` steps over maps of one to three spatial dims; the last two values leave. wide: without
    what int32 cannot hold of 16-bit integers."""

    def __init__(self, seed: int, ops: int, *, wide: bool = False) -> None:
        super().__init__()
        self.rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        self.dims = int(self.rng.choice([1, 2, 2, 2, 3]))
        self.wide = wide
        size = [self.pick(4, 14 if self.dims < 3 else 6) for _ in range(self.dims)]
        self.example = torch.randn(self.pick(1, 3), self.pick(1, 8), *size)
        self.steps = nn.ModuleList()
        values = [self.example]
        kinds = [getattr(self, name) for name in sorted(dir(self)) if name.startswith("op_")]
        for _ in range(20 * ops):
            if len(self.steps) == ops:
                break
            real = [i for i, v in enumerate(values) if v.is_floating_point()]
            at = real[-self.pick(1, min(3, len(real)))]
            try:
                step = kinds[self.pick(0, len(kinds) - 1)](at, values)
                with torch.no_grad():
                    found = step.eval()(*(values[i] for i in step.reads))
            except (RuntimeError, ValueError):  # a window larger than its input
                continue
            fits = 0 < found.numel() <= MOST and found.ndim == self.dims + 2
            if fits and found.shape[0] == self.example.shape[0] and found.isfinite().all():
                self.steps.append(step)
                reach = max(float(found.abs().max()), 1e-3)
                values.append(found / reach if found.is_floating_point() else found)

    def forward(self, x: Tensor) -> list[Tensor]:
        values = [x]
        for step in self.steps:
            values.append(step(*(values[i] for i in step.reads)))
        return values[-2:] if len(self.steps) > 1 else values[-1:]

    def pick(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def each(self, low: int, high: int) -> tuple[int, ...]:
        return tuple(self.pick(low, high) for _ in range(self.dims))

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def module(self, name: str) -> Any:
        """`name` with the number of spatial dims in it: Conv becomes nn.Conv2d."""
        return getattr(nn, f"{name}{self.dims}d")

    def groups(self, channels: int) -> int:
        return int(self.rng.choice([g for g in range(1, channels + 1) if channels % g == 0]))

    # -- weights -------------------------------------------------------------------------------

    def op_conv(self, at: int, values: list[Tensor]) -> Step:
        channels = values[at].shape[1]
        groups = self.groups(channels)
        mode = "zeros" if self.chance(0.8) else str(self.rng.choice(["reflect", "replicate"]))
        conv = self.module("Conv")(
            channels, groups * self.pick(1, 3), self.each(1, 3), self.each(1, 2), self.each(0, 2),
            self.each(1, 2), groups, self.chance(0.6), mode,
        )  # fmt: skip
        own = [conv]
        if self.chance(0.5):
            own.append(self.module("BatchNorm")(conv.out_channels))
        if self.chance(0.5):
            own.append(nn.ReLU() if self.chance(0.5) else nn.ReLU6())
        return Step((at,), lambda x, *own: _chain(x, own), *own)

    op_conv_again = op_conv_and_again = op_conv

    def op_residual(self, at: int, values: list[Tensor]) -> Step:
        channels = values[at].shape[1]
        conv = self.module("Conv")(channels, channels, 3, padding=1)
        return Step((at,), lambda x, conv: F.relu(conv(x) + x), conv)

    def op_deconv(self, at: int, values: list[Tensor]) -> Step:
        channels = values[at].shape[1]
        groups, stride = self.groups(channels), self.each(1, 3)
        extra = tuple(self.pick(0, s - 1) for s in stride)
        deconv = self.module("ConvTranspose")(
            channels, groups * self.pick(1, 2), self.each(1, 3), stride, self.each(0, 1), extra,
            groups, self.chance(0.5), self.each(1, 2),
        )  # fmt: skip
        return Step((at,), lambda x, deconv: deconv(x), deconv)

    def op_linear(self, at: int, values: list[Tensor]) -> Step:
        linear = nn.Linear(values[at].shape[-1], self.pick(2, 9), self.chance(0.6))
        return Step((at,), lambda x, linear: linear(x), linear)

    def op_functional(self, at: int, values: list[Tensor]) -> Step:
        weight = torch.randn(self.pick(1, 5), values[at].shape[1], *self.each(1, 2))
        call = getattr(F, f"conv{self.dims}d")
        return Step((at,), lambda x, weight: call(x, weight), weight)

    def op_batch_norm(self, at: int, values: list[Tensor]) -> Step:
        norm = self.module("BatchNorm")(values[at].shape[1])
        return Step((at,), lambda x, norm: norm(x), norm)

    # -- arithmetic ----------------------------------------------------------------------------

    def alike(self, at: int, values: list[Tensor]) -> int:
        found = [
            i
            for i, v in enumerate(values)
            if v.shape == values[at].shape and v.dtype == values[at].dtype
        ]
        return found[self.pick(0, len(found) - 1)]

    def op_two(self, at: int, values: list[Tensor]) -> Step:
        join = (torch.add, torch.sub, torch.mul, torch.maximum, torch.minimum)[self.pick(0, 4)]
        return Step((at, self.alike(at, values)), join)

    def op_cat(self, at: int, values: list[Tensor]) -> Step:
        dim = self.pick(1, self.dims + 1)
        return Step((at, self.alike(at, values)), lambda x, y: torch.cat([x, y], dim))

    def op_stack(self, at: int, values: list[Tensor]) -> Step:
        dim = self.pick(1, self.dims + 1)
        both = (at, self.alike(at, values))
        return Step(both, lambda x, y: torch.stack([x, y], dim).flatten(1, 2))

    def op_gate(self, at: int, values: list[Tensor]) -> Step:
        dims = tuple(range(2, self.dims + 2))
        return Step((at,), lambda x: x * torch.sigmoid(x.mean(dims, keepdim=True)))

    def op_number(self, at: int, values: list[Tensor]) -> Step:
        number = float(self.rng.normal()) * 10 ** self.pick(-2, 2)
        act = (torch.add, torch.mul, lambda x, n: n - x, lambda x, n: x / n)[self.pick(0, 3)]
        return Step((at,), lambda x: act(x, number))

    def op_parameter(self, at: int, values: list[Tensor]) -> Step:
        shape = [1, *(s if self.chance(0.5) else 1 for s in values[at].shape[1:])]
        act = (torch.add, torch.mul, torch.sub)[self.pick(0, 2)]
        return Step((at,), lambda x, p: act(x, p), torch.randn(shape))

    # -- functions of one number ---------------------------------------------------------------

    def op_function(self, at: int, values: list[Tensor]) -> Step:
        functions = (
            F.relu, F.relu6, F.hardtanh, torch.sigmoid, torch.tanh, F.silu, F.gelu, F.elu,
            F.hardswish, F.hardsigmoid, F.leaky_relu, torch.exp, torch.abs, torch.neg, torch.sign,
            lambda x: x.clamp(-0.3, 0.4), lambda x: x**2,
        )  # fmt: skip
        return Step((at,), functions[self.pick(0, len(functions) - 1)])

    def op_prelu(self, at: int, values: list[Tensor]) -> Step:
        return Step((at,), lambda x, p: p(x), nn.PReLU(values[at].shape[1]))

    # -- what the input itself holds -----------------------------------------------------------

    def dim(self) -> int:
        return self.pick(1, self.dims + 1)

    def op_softmax(self, at: int, values: list[Tensor]) -> Step:
        dim, factor = self.dim(), 10.0 ** self.pick(-1, 1)
        call = (torch.softmax, torch.log_softmax)[self.pick(0, 1)]
        return Step((at,), lambda x: call(x * factor, dim))

    def op_norm(self, at: int, values: list[Tensor]) -> Step:
        channels, *sizes = values[at].shape[1:]
        eps = 10.0 ** self.pick(-6, 2)
        norm = (
            lambda: nn.LayerNorm(sizes[self.pick(0, self.dims - 1) :], eps),
            lambda: nn.GroupNorm(self.groups(channels), channels, eps),
            lambda: self.module("InstanceNorm")(channels, eps, affine=True),
        )[self.pick(0, 2)]()
        for parameter in norm.parameters():
            nn.init.normal_(parameter, std=10.0 ** self.pick(-2, 2))
        return Step((at,), lambda x, norm: norm(x), norm)

    def op_matmul(self, at: int, values: list[Tensor]) -> Step:
        if self.wide:
            raise ValueError("leaves int32")
        both = (at, self.alike(at, values))
        return Step(both, lambda x, y: torch.softmax(x @ y.transpose(-1, -2), -1) @ y)

    def op_quotient(self, at: int, values: list[Tensor]) -> Step:
        both, offset = (at, self.alike(at, values)), self.pick(0, 1)
        return Step(both, lambda x, y: x / (y.abs() + offset))

    def op_column(self, at: int, values: list[Tensor]) -> Step:
        dim = self.dim()
        return Step((at,), lambda x: x / x.abs().sum(dim, keepdim=True))

    def op_place(self, at: int, values: list[Tensor]) -> Step:
        dim = self.dim()
        return Step((at,), lambda x: F.relu(x).argmax(dim, keepdim=True))

    # -- windows -------------------------------------------------------------------------------

    def op_max_pool(self, at: int, values: list[Tensor]) -> Step:
        kernel = self.each(1, 3)
        pool = self.module("MaxPool")(
            kernel, self.each(1, 3), tuple(self.pick(0, k // 2) for k in kernel),
            self.each(1, 2), ceil_mode=self.chance(0.4),
        )  # fmt: skip
        return Step((at,), lambda x, pool: pool(x), pool)

    def op_average_pool(self, at: int, values: list[Tensor]) -> Step:
        kernel = self.each(1, 3)
        pool = self.module("AvgPool")(
            kernel, self.each(1, 3), tuple(self.pick(0, k // 2) for k in kernel),
            self.chance(0.4), self.chance(0.5),
        )  # fmt: skip
        return Step((at,), lambda x, pool: pool(x), pool)

    def op_adaptive(self, at: int, values: list[Tensor]) -> Step:
        size = tuple(self.pick(1, s + 1) for s in values[at].shape[2:])
        kind = "AdaptiveAvgPool" if self.chance(0.5) else "AdaptiveMaxPool"
        pool = self.module(kind)(size)
        return Step((at,), lambda x, pool: pool(x), pool)

    def op_reduce(self, at: int, values: list[Tensor]) -> Step:
        dims = tuple(d for d in range(1, self.dims + 2) if self.chance(0.4)) or (1,)
        reduce = (torch.mean, torch.sum, torch.amax)[self.pick(0, 2)]
        return Step((at,), lambda x: reduce(x, dims, keepdim=True))

    def op_nearest(self, at: int, values: list[Tensor]) -> Step:
        size = tuple(self.pick(1, 2 * s) for s in values[at].shape[2:])
        return Step((at,), lambda x: F.interpolate(x, size=size))

    def op_linear_resize(self, at: int, values: list[Tensor]) -> Step:
        if self.wide or self.dims == 3:
            raise ValueError("no integer form")
        size = tuple(self.pick(1, 2 * s) for s in values[at].shape[2:])
        mode, aligned = ("linear", "bilinear")[self.dims - 1], self.chance(0.4)
        return Step((at,), lambda x: F.interpolate(x, size=size, mode=mode, align_corners=aligned))

    # -- moves ---------------------------------------------------------------------------------

    def op_pad(self, at: int, values: list[Tensor]) -> Step:
        amounts = [self.pick(-1, 2) for _ in range(2 * self.dims)]
        if self.chance(0.5):
            value = float(self.rng.normal())
            return Step((at,), lambda x: F.pad(x, amounts, value=value))
        own, mode = [max(a, 0) for a in amounts], str(self.rng.choice(["reflect", "replicate"]))
        return Step((at,), lambda x: F.pad(x, own, mode=mode))

    def op_slice(self, at: int, values: list[Tensor]) -> Step:
        index = [slice(None)]
        for size in values[at].shape[1:]:
            start = self.pick(0, size - 1)
            index.append(slice(start, self.pick(start + 1, size), self.pick(1, 2)))
        return Step((at,), lambda x: x[tuple(index)])

    def op_split(self, at: int, values: list[Tensor]) -> Step:
        dim = self.pick(1, self.dims + 1)
        size = values[at].shape[dim]
        if size < 2:
            raise ValueError("nothing to split")
        sizes = [first := self.pick(1, size - 1), size - first]
        return Step((at,), lambda x: torch.cat(x.split(sizes, dim)[::-1], dim))

    def op_transpose(self, at: int, values: list[Tensor]) -> Step:
        perm = (0, *(int(p) + 1 for p in self.rng.permutation(self.dims + 1)))
        return Step((at,), lambda x: x.permute(perm))

    def op_shuffle(self, at: int, values: list[Tensor]) -> Step:
        channels, groups = values[at].shape[1], self.groups(values[at].shape[1])
        if self.dims == 2 and channels % 4 == 0 and self.chance(0.5):
            return Step((at,), lambda x: F.pixel_shuffle(x, 2))
        rest = values[at].shape[2:]
        return Step(
            (at,),
            lambda x: (
                x.view(x.shape[0], groups, channels // groups, *rest).transpose(1, 2).flatten(1, 2)
            ),
        )

    def op_roll(self, at: int, values: list[Tensor]) -> Step:
        shape = values[at].shape[1:]
        turned = (shape[-1], *shape[:-1])
        return Step((at,), lambda x: x.reshape(x.shape[0], *turned))


def _chain(x: Tensor, modules: tuple[nn.Module, ...]) -> Tensor:
    for module in modules:
        x = module(x)
    return x


def random_net(seed: int) -> tuple[Prepared, Tensor]:
    """(a random net, prepared and settled, its scales as they were observed or wild; its input)."""
    rng = np.random.default_rng([seed, 1])
    activation, weight = DTYPES[int(rng.integers(len(DTYPES)))]
    net = RandomNet(seed, int(rng.integers(1, 9)), wide=activation == "qint16")
    qconfig = {"": {"activation": {"dtype": activation}, "weight": {"dtype": weight}}}
    prepared = settle(net, net.example, qconfig=qconfig, quantize_output=True)
    if rng.random() < 0.3:
        with torch.no_grad():
            for module in prepared.model.modules():
                if isinstance(module, FakeQuantize) and rng.random() < 0.4:
                    exponent = rng.uniform(-45, 36) if rng.random() < 0.5 else rng.uniform(-3, 3)
                    wild = module.scale.double() * 10**exponent
                    module.scale.copy_(wild.clamp(torch.finfo(torch.float32).tiny, 1e37))
    x = net.example
    if rng.random() < 0.3:  # saturating
        x = torch.where(x > 0, 1e30, -1e30)
    return prepared, x
