"""The shapes of nets with published times, as integer programs (weights are zeros: time does not
depend on them). Sources: MobileNetV1 Howard et al. 2017, MobileNetV2 Sandler et al. 2018 (at 32x32
with its ImageNet strides, which gives the published 12.2 M OPs), ResNet He et al. 2015,
EfficientNet-lite0 and EfficientNet-B0 without squeeze-and-excitation Tan and Le 2019."""

from __future__ import annotations

from typing import Any

import numpy as np

from qatspec.api import Program, ProgramBuilder, Provenance

#: (expansion, channels, repeats, stride, kernel)
_MOBILENET_V2 = [
    (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 32, 3, 2, 3), (6, 64, 4, 2, 3),
    (6, 96, 3, 1, 3), (6, 160, 3, 2, 3), (6, 320, 1, 1, 3),
]  # fmt: skip
_EFFICIENTNET_B0 = [
    (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3),
]  # fmt: skip


class Net:
    """Layers on a ProgramBuilder."""

    def __init__(self, name: str, rows: int, columns: int | None = None) -> None:
        self.builder = ProgramBuilder(name)
        #: the op behind each convolution where the chip leaves it to the CPU ("silu"); on the chip
        #: a table behind a convolution costs nothing
        self.activation = ""
        shape = (3, rows, columns or rows)
        self.image = self.builder.input("image", "int8", shape, 1 / 128)
        self.count = 0

    def conv(
        self,
        x: str,
        out: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        residual: str | None = None,
    ) -> str:
        """Convolution and requantization, with a residual in between if one is given."""
        odd = stride == 1 or kernel % 2
        padding = (kernel - 1) // 2 if odd else kernel // 2 - 1
        square = ((kernel,) * 2, (stride,) * 2, (padding,) * 4)
        return self.window(x, out, *square, groups, residual)

    def window(
        self,
        x: str,
        out: int,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, ...],
        groups: int = 1,
        residual: str | None = None,
        dilation: int = 1,
    ) -> str:
        """`conv` with any window."""
        weight = np.zeros((out, self.channels(x) // groups, *kernel), np.int8)
        sums = self._emit(
            "conv",
            [x, self._const("int8", weight), self._const("int32", np.zeros(out, np.int32))],
            stride=stride,
            padding=padding,
            dilation=(dilation,) * 2,
            groups=groups,
        )
        result = self._requant([sums, residual] if residual else [sums], out)
        if not self.activation:
            return result
        self.count += 1
        operands = [result, self._const("int8", np.zeros(256, np.int8))]
        name, origin = f"{self.activation}_{self.count}", Provenance(op=self.activation)
        return self.builder.emit("lut", operands, name=name, scale=1.0, origin=origin, dtype="int8")

    def channels(self, x: str) -> int:
        return self.builder.values[x].shape[0]

    def raw(self, x: str, out: int) -> str:
        """A 1x1 convolution whose sums are an output."""
        weight = self._const("int8", np.zeros((out, self.channels(x), 1, 1), np.int8))
        window = {"stride": (1, 1), "padding": (0,) * 4, "dilation": (1, 1), "groups": 1}
        return self._emit("conv", [x, weight], **window)

    def max_pool(self, x: str) -> str:
        return self.pool(x, 3, 2)

    def pool(self, x: str, kernel: int, stride: int) -> str:
        window = {"kernel": (kernel,) * 2, "stride": (stride,) * 2, "dilation": (1, 1)}
        return self._emit("max_pool", [x], padding=(kernel // 2,) * 4, **window)

    def add(self, a: str, b: str) -> str:
        return self._requant([a, b], 1)

    def up(self, x: str) -> str:
        _, rows, columns = self.builder.values[x].shape
        return self._emit("resize_nearest", [x], size=(2 * rows, 2 * columns))

    def doubled(self, x: str) -> str:
        """A transposed convolution of 2x2 that doubles rows and columns."""
        channels = self.channels(x)
        weight = self._const("int8", np.zeros((channels, channels, 2, 2), np.int8))
        window = {"stride": (2, 2), "padding": (0,) * 4, "dilation": (1, 1), "groups": 1}
        sums = self._emit("conv_transpose", [x, weight], output_padding=(0, 0), **window)
        return self._requant([sums], channels)

    def concat(self, *parts: str) -> str:
        return self._emit("concat", list(parts), axis=1)

    def split(self, x: str, channels: int) -> list[str]:
        starts = range(0, self.channels(x), channels)
        cut = {"axis": 1, "step": 1}
        return [self._emit("slice", [x], start=s, stop=s + channels, **cut) for s in starts]

    def softmax(self, x: str) -> str:
        """Along the last dim."""
        last = len(self.builder.values[x].shape)
        table = self._const("int32", np.ones(256, np.int32))
        levels = {"low": -128, "high": 127, "rounding": "half_up", "multiplier": 128, "shift": 0}
        part = {"origin": Provenance(op="softmax")}
        powers = self._emit("exp_below_max", [x, table], dtype="int32", axis=last, **part)
        total = self._emit("reduce_sum", [powers], axes=(last,), keepdim=True, **part)
        return self._emit("divide", [powers, total], dtype="int8", **levels, **part)

    def classify(self, x: str, classes: int) -> Program:
        """Global average, a linear layer, one output."""
        channels = self.builder.values[x].shape[0]
        pooled = self._emit("reduce_sum", [x], axes=(2, 3), keepdim=False)
        features = self._requant([pooled], channels)
        weight = self._const("int8", np.zeros((classes, channels), np.int8))
        return self.builder.finish([self._emit("linear", [features, weight])])

    def _requant(self, terms: list[str], channels: int) -> str:
        scales = [self._const("int64", np.full(channels, 20000)) for _ in terms]
        shift = self._const("int64", np.full(channels, 20))
        limits = {"low": -128, "high": 127}
        return self._emit(
            "requant", [*terms, *scales, shift], dtype="int8", axis=1, rounding="half_up", **limits
        )

    def _const(self, dtype: Any, array: np.ndarray) -> str:
        return self.builder.const("constant", dtype, array)

    def _emit(self, kind: str, inputs: list[str], **attrs: Any) -> str:
        self.count += 1
        return self.builder.emit(kind, inputs, name=f"{kind}_{self.count}", scale=1.0, **attrs)


def mobilenet_v1(size: int = 224) -> Program:
    net = Net("mobilenet_v1", size)
    x = net.conv(net.image, 32, 3, 2)
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
    widths = [64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024]
    for stride, width in zip(strides, widths, strict=True):
        channels = net.builder.values[x].shape[0]
        x = net.conv(net.conv(x, channels, 3, stride, groups=channels), width)
    return net.classify(x, 1000)


def mobilenet_v2_cifar() -> Program:
    return _inverted("mobilenet_v2_cifar", 32, 2, 32, _MOBILENET_V2, 1280, 10)


def mobilenet_v2() -> Program:
    return _inverted("mobilenet_v2", 224, 2, 32, _MOBILENET_V2, 1280, 1000)


def efficientnet_lite0() -> Program:
    return _inverted("efficientnet_lite0", 224, 2, 32, _EFFICIENTNET_B0, 1280, 1000)


def _inverted(
    name: str,
    size: int,
    stride: int,
    stem: int,
    stages: list[tuple[int, int, int, int, int]],
    head: int,
    classes: int,
) -> Program:
    """A net of inverted residuals."""
    net = Net(name, size)
    x = net.conv(net.image, stem, 3, stride)
    for expansion, width, repeats, first, kernel in stages:
        for repeat in range(repeats):
            step = first if repeat == 0 else 1
            channels = net.builder.values[x].shape[0]
            wide = x if expansion == 1 else net.conv(x, channels * expansion)
            hidden = channels * expansion
            deep = net.conv(wide, hidden, kernel, step, groups=hidden)
            same = step == 1 and channels == width
            x = net.conv(deep, width, residual=x if same else None)
    return net.classify(net.conv(x, head), classes)


def resnet18() -> Program:
    net = Net("resnet18", 224)
    x = net.max_pool(net.conv(net.image, 64, 7, 2))
    for width, first in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for stride in (first, 1):
            channels = net.builder.values[x].shape[0]
            same = stride == 1 and channels == width
            shortcut = x if same else net.conv(x, width, 1, stride)
            x = net.conv(net.conv(x, width, 3, stride), width, 3, residual=shortcut)
    return net.classify(x, 1000)


def resnet50(depths: tuple[int, ...] = (3, 4, 6, 3)) -> Program:
    """depths: blocks of each stage; (3, 8, 36, 3) is ResNet-152."""
    net = Net(f"resnet{3 * sum(depths) + 2}", 224)
    x = net.max_pool(net.conv(net.image, 64, 7, 2))
    for width, repeats, first in zip((64, 128, 256, 512), depths, (1, 2, 2, 2), strict=True):
        for repeat in range(repeats):
            stride = first if repeat == 0 else 1
            shortcut = net.conv(x, 4 * width, 1, stride) if repeat == 0 else x
            deep = net.conv(net.conv(x, width), width, 3, stride)
            x = net.conv(deep, 4 * width, residual=shortcut)
    return net.classify(x, 1000)
