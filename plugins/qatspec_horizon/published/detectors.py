"""The shapes of detectors and segmentation nets with published times on X3, and of YOLOv5 v2.0.
Sources: the authors' code of YOLOv5 v2.0 and MobileNet-SSD, torchvision's Inception v3, the papers
of EfficientDet and DeepLabV3+ with the widths of the public configurations for X3."""

from __future__ import annotations

from qatspec.api import Program
from qatspec_horizon.published.classifiers import Classifier
from qatspec_horizon.published.nets import Net
from qatspec_horizon.published.yolos import Yolo


class Five(Yolo):
    """Blocks of YOLOv5 v2.0, whose leaky ReLUs are tables behind the convolutions."""

    def focus(self, x: str) -> str:
        """Every second row and column: four pictures of a quarter of the pixels."""
        cut = {"stop": self.builder.values[x].shape[1], "step": 2}
        rows = [self._emit("slice", [x], axis=2, start=s, **cut) for s in (0, 1)]
        return self.concat(
            *(self._emit("slice", [r], axis=3, start=s, **cut) for s in (0, 1) for r in rows)
        )

    def csp(self, x: str, channels: int, count: int, shortcut: bool) -> str:
        """BottleneckCSP."""
        out = self.ch(channels)
        y = self.conv(x, out // 2)
        for _ in range(self.times(count)):
            y = self.bottleneck(y, out // 2, (1, 3), shortcut)
        return self.conv(self.concat(self.conv(y, out // 2), self.conv(x, out // 2)), out)


def yolov5_v2(size: str, pixels: int = 640) -> Program:
    net = Five(f"yolov5{size}_v2", "v5", size, pixels)
    net.activation = "leaky_relu"
    x = net.conv(net.focus(net.image), net.ch(64), 3)
    x = net.csp(net.down(x, 128), 128, 3, True)
    third = x = net.csp(net.down(x, 256), 256, 9, True)
    fourth = x = net.csp(net.down(x, 512), 512, 9, True)
    x = net.down(x, 1024)
    y = net.conv(x, net.ch(1024) // 2)
    y = net.conv(net.concat(y, *(net.pool(y, k, 1) for k in (5, 9, 13))), net.ch(1024))
    fifth = net.conv(net.csp(y, 1024, 3, False), net.ch(512))
    y = net.csp(net.concat(net.up(fifth), fourth), 512, 3, False)
    middle = net.conv(y, net.ch(256))
    small = net.csp(net.concat(net.up(middle), third), 256, 3, False)
    middle = net.csp(net.concat(net.down(small, 256), middle), 512, 3, False)
    large = net.csp(net.concat(net.down(middle, 512), fifth), 1024, 3, False)
    return net.builder.finish([net.raw(m, 255) for m in (small, middle, large)])


def mobilenet_ssd() -> Program:
    """MobileNetV1 at 300x300 with six maps, of 3 or 6 boxes and 21 classes."""
    net = Net("mobilenet_ssd", 300)
    x, maps = net.conv(net.image, 32, 3, 2), []
    strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
    widths = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    for i, (stride, width) in enumerate(zip(strides, widths, strict=True)):
        channels = net.channels(x)
        x = net.conv(net.conv(x, channels, 3, stride, groups=channels), width)
        maps += [x] if i in (10, 12) else []
    for reduced, width in ((256, 512), (128, 256), (128, 256), (64, 128)):
        x = net.conv(net.conv(x, reduced), width, 3, 2)
        maps.append(x)
    boxes = (3, 6, 6, 6, 6, 6)
    outs = [net.raw(m, b * size) for m, b in zip(maps, boxes, strict=True) for size in (4, 21)]
    return net.builder.finish(outs)


class Inception(Classifier):
    """Convolutions without padding and with kernels of one row or one column."""

    def free(self, x: str, out: int, kernel: tuple[int, int] | int, stride: int = 1,
             padded: bool = True) -> str:  # fmt: skip
        rows, columns = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        top, left = (rows // 2, columns // 2) if padded else (0, 0)
        return self.window(x, out, (rows, columns), (stride,) * 2, (top, left, top, left))

    def shrink(self, x: str) -> str:
        window = {"kernel": (3, 3), "stride": (2, 2), "dilation": (1, 1), "padding": (0,) * 4}
        return self._emit("max_pool", [x], **window)

    def mean(self, x: str) -> str:
        window = {"kernel": (3, 3), "stride": (1, 1), "padding": (1,) * 4}
        return self._requant([self._emit("sum_pool", [x], **window)], self.channels(x))


def inception_v3(size: int) -> Program:
    net = Inception("inception_v3", size)
    x = net.free(net.free(net.image, 32, 3, 2, False), 32, 3, 1, False)
    x = net.shrink(net.free(x, 64, 3))
    x = net.shrink(net.free(net.conv(x, 80), 192, 3, 1, False))
    for pool in (32, 64, 64):
        five = net.free(net.conv(x, 48), 64, 5)
        three = net.free(net.free(net.conv(x, 64), 96, 3), 96, 3)
        x = net.concat(net.conv(x, 64), five, three, net.conv(net.mean(x), pool))
    three = net.free(net.free(net.conv(x, 64), 96, 3), 96, 3, 2, False)
    x = net.concat(net.free(x, 384, 3, 2, False), three, net.shrink(x))
    for wide in (128, 160, 160, 192):
        seven = net.free(net.free(net.conv(x, wide), wide, (1, 7)), 192, (7, 1))
        y = net.free(net.free(net.conv(x, wide), wide, (7, 1)), wide, (1, 7))
        y = net.free(net.free(y, wide, (7, 1)), 192, (1, 7))
        x = net.concat(net.conv(x, 192), seven, y, net.conv(net.mean(x), 192))
    three = net.free(net.conv(x, 192), 320, 3, 2, False)
    seven = net.free(net.free(net.conv(x, 192), 192, (1, 7)), 192, (7, 1))
    x = net.concat(three, net.free(seven, 192, 3, 2, False), net.shrink(x))
    for _ in range(2):
        a, b = net.conv(x, 384), net.free(net.conv(x, 448), 384, 3)
        sides = [net.free(y, 384, kernel) for y in (a, b) for kernel in ((1, 3), (3, 1))]
        x = net.concat(net.conv(x, 320), *sides, net.conv(net.mean(x), 192))
    return net.classify(x, 1000)


_B0 = [
    (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3),
]  # fmt: skip
#: DeepLabV3+ with the backbone that the public configuration for X3 calls m0
_M0 = [
    (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 4, 2, 5), (6, 80, 3, 2, 3),
    (4, 112, 3, 1, 5), (4, 192, 4, 2, 5), (4, 320, 1, 1, 3),
]  # fmt: skip


def _stages(net: Classifier, blocks: list[tuple[int, int, int, int, int]]) -> list[str]:
    """Maps at strides 2, 4, 8, 16 and 32: the last of each."""
    x, maps = net.conv(net.image, 32, 3, 2), []
    for expansion, out, repeats, first, kernel in blocks:
        maps += [x] if first == 2 else []
        for repeat in range(repeats):
            stride = first if repeat == 0 else 1
            x = net.inverted(x, net.channels(x) * expansion, out, kernel, stride, 0)
    return [*maps, x]


def _separable(net: Net, x: str, out: int, residual: str | None = None) -> str:
    channels = net.channels(x)
    return net.conv(net.conv(x, channels, 3, groups=channels), out, residual=residual)


def efficientdet(width: int = 64, stacks: int = 3, classes: int = 80) -> Program:
    """EfficientDet-D0 of the paper with the backbone that runs on X3: no squeeze-and-excitation, no
    swish."""
    net = Classifier("efficientdet", 512)
    *_, third, fourth, fifth = _stages(net, _B0)
    sixth = net.max_pool(net.conv(fifth, width))
    levels = [*(net.conv(m, width) for m in (third, fourth, fifth)), sixth, net.max_pool(sixth)]
    for _ in range(stacks):
        down = [levels[-1]]
        for level in reversed(levels[:-1]):
            down.insert(0, _separable(net, net.add(level, net.up(down[0])), width))
        levels_out = [down[0]]
        for level, top in zip(levels[1:], down[1:], strict=True):
            joined = net.add(net.add(level, top), net.max_pool(levels_out[-1]))
            levels_out.append(_separable(net, joined, width))
        levels = levels_out
    outputs = []
    for level in levels:
        for out in (9 * classes, 36):
            x = level
            for _ in range(3):
                x = _separable(net, x, width)
            outputs.append(net.raw(net.conv(x, width, 3, groups=width), out))
    return net.builder.finish(outputs)


def deeplab() -> Program:
    """DeepLabV3+ at 1024x2048 with 19 classes: four branches with dilations 1, 2, 4, 4 and the mean
    of the picture, joined by an addition with the map at stride 8."""
    net = Inception("deeplab", 1024, 2048)
    _, _, low, _, x = _stages(net, _M0)
    channels = net.channels(x)

    def wide(y: str, dilation: int) -> str:
        square = ((3, 3), (1, 1), (dilation,) * 4)
        y = net.window(y, net.channels(y), *square, net.channels(y), dilation=dilation)
        return net.conv(y, 128)

    pooled = net._requant([net._emit("reduce_sum", [x], axes=(2, 3), keepdim=True)], channels)
    pooled = net._emit("resize_nearest", [net.conv(pooled, 128)], size=(32, 64))
    branches = [net.conv(x, 128), wide(x, 2), wide(x, 4), wide(wide(x, 4), 4), pooled]
    y = net.conv(net.concat(*branches), 128)
    joined = net.conv(low, 128, residual=net.up(net.up(y)))
    return net.builder.finish([net.raw(_separable(net, joined, 128), 19)])
