"""The shapes of image classifiers with published times, as they run: batch norms and the branches
of re-parametrised nets are folded. Sources: torchvision (ResNeXt50, GoogLeNet, MobileNetV3), timm
(EfficientNet), and the papers of RepVGG, MobileOne and FasterNet with their authors' code."""

from __future__ import annotations

from qatspec.api import Program
from qatspec_horizon.published.nets import Net


class Classifier(Net):
    """Blocks of classifiers."""

    def excite(self, x: str, squeeze: int) -> str:
        """Squeeze and excitation."""
        channels = self.channels(x)
        pooled = self._emit("reduce_sum", [x], axes=(2, 3), keepdim=True)
        gate = self.conv(self.conv(self._requant([pooled], channels), squeeze), channels)
        return self._requant([self._emit("mul", [x, gate])], 1)

    def inverted(
        self, x: str, hidden: int, out: int, kernel: int, stride: int, squeeze: int
    ) -> str:
        channels = self.channels(x)
        y = self.conv(x, hidden) if hidden != channels else x
        y = self.conv(y, hidden, kernel, stride, groups=hidden)
        y = self.excite(y, squeeze) if squeeze else y
        return self.conv(y, out, residual=x if stride == 1 and channels == out else None)


def resnext50() -> Program:
    net = Classifier("resnext50", 224)
    x = net.max_pool(net.conv(net.image, 64, 7, 2))
    for width, repeats, first in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for repeat in range(repeats):
            stride = first if repeat == 0 else 1
            shortcut = net.conv(x, 4 * width, 1, stride) if repeat == 0 else x
            deep = net.conv(net.conv(x, 2 * width), 2 * width, 3, stride, groups=32)
            x = net.conv(deep, 4 * width, residual=shortcut)
    return net.classify(x, 1000)


def se_resnet50() -> Program:
    net = Classifier("se_resnet50", 224)
    x = net.max_pool(net.conv(net.image, 64, 7, 2))
    for width, repeats, first in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for repeat in range(repeats):
            stride = first if repeat == 0 else 1
            shortcut = net.conv(x, 4 * width, 1, stride) if repeat == 0 else x
            deep = net.conv(net.conv(net.conv(x, width), width, 3, stride), 4 * width)
            x = net.add(net.excite(deep, width // 4), shortcut)
    return net.classify(x, 1000)


def repvgg(name: str, widths: tuple[int, ...]) -> Program:
    net = Classifier(name, 224)
    x = net.conv(net.image, min(64, widths[0]), 3, 2)
    for width, count in zip(widths, (2, 4, 14, 1), strict=True):
        for i in range(count):
            x = net.conv(x, width, 3, 2 if i == 0 else 1)
    return net.classify(x, 1000)


def mobileone(
    name: str, widths: tuple[int, ...], excited: tuple[int, ...] = (0, 0, 0, 0)
) -> Program:
    net = Classifier(name, 224)
    x = net.conv(net.image, min(64, widths[0]), 3, 2)
    for width, count, last in zip(widths, (2, 8, 10, 1), excited, strict=True):
        for i in range(count):
            channels = net.channels(x)
            squeeze = i >= count - last
            x = net.conv(x, channels, 3, 2 if i == 0 else 1, groups=channels)
            x = net.excite(x, channels // 16) if squeeze else x
            x = net.conv(x, width)
            x = net.excite(x, width // 16) if squeeze else x
    return net.classify(x, 1000)


def fasternet(name: str, width: int, depths: tuple[int, ...]) -> Program:
    net = Classifier(name, 224)
    x = net.conv(net.image, width, 4, 4)
    for stage, depth in enumerate(depths):
        if stage:
            width *= 2
            x = net.conv(x, width, 2, 2)
        for _ in range(depth):
            parts = net.split(x, width // 4)
            mixed = net.concat(net.conv(parts[0], width // 4, 3), *parts[1:])
            x = net.conv(net.conv(mixed, 2 * width), width, residual=x)
    pooled = net._requant([net._emit("reduce_sum", [x], axes=(2, 3), keepdim=True)], width)
    return net.classify(net.conv(pooled, 1280), 1000)


#: (kernel, hidden, out, excited, stride)
_V3_LARGE = [
    (3, 16, 16, 0, 1), (3, 64, 24, 0, 2), (3, 72, 24, 0, 1), (5, 72, 40, 1, 2), (5, 120, 40, 1, 1),
    (5, 120, 40, 1, 1), (3, 240, 80, 0, 2), (3, 200, 80, 0, 1), (3, 184, 80, 0, 1),
    (3, 184, 80, 0, 1), (3, 480, 112, 1, 1), (3, 672, 112, 1, 1), (5, 672, 160, 1, 2),
    (5, 960, 160, 1, 1), (5, 960, 160, 1, 1),
]  # fmt: skip


def mobilenet_v3() -> Program:
    net = Classifier("mobilenet_v3_large", 224)
    x = net.conv(net.image, 16, 3, 2)
    for kernel, hidden, out, excited, stride in _V3_LARGE:
        squeeze = -(-hidden // 32) * 8 if excited else 0
        x = net.inverted(x, hidden, out, kernel, stride, squeeze)
    x = net.conv(x, 960)
    pooled = net._requant([net._emit("reduce_sum", [x], axes=(2, 3), keepdim=True)], 960)
    return net.classify(net.conv(pooled, 1280), 1000)


_B0 = [
    (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3),
]  # fmt: skip


def efficientnet(
    name: str, width: float, depth: float, size: int = 224, *, lite: bool = False
) -> Program:
    """lite: without squeeze and excitation, stem and head of B0's width."""
    net = Classifier(name, size)

    def ch(channels: float) -> int:
        return max(8, int(channels * width + 4) // 8 * 8)

    x = net.conv(net.image, 32 if lite else ch(32), 3, 2)
    for stage, (expansion, out, repeats, first, kernel) in enumerate(_B0):
        fixed = lite and stage in (0, 6)
        for repeat in range(repeats if fixed else -int(-repeats * depth // 1)):
            channels = net.channels(x)
            squeeze = 0 if lite else max(1, channels // 4)
            stride = first if repeat == 0 else 1
            x = net.inverted(x, channels * expansion, ch(out), kernel, stride, squeeze)
    return net.classify(net.conv(x, 1280 if lite else ch(1280)), 1000)


#: 1x1, 3x3 (reduced, out), "5x5" (reduced, out: a 3x3 in torchvision), pool
_INCEPTION = [
    (64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64), None, (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64), (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128), None, (256, 160, 320, 32, 128, 128),
    (384, 192, 384, 48, 128, 128),
]  # fmt: skip


def googlenet() -> Program:
    net = Classifier("googlenet", 224)
    x = net.max_pool(net.conv(net.image, 64, 7, 2))
    x = net.max_pool(net.conv(net.conv(x, 64), 192, 3))
    for block in _INCEPTION:
        if block is None:
            x = net.max_pool(x)
            continue
        one, reduced, three, small, five, pool = block
        x = net.concat(
            net.conv(x, one), net.conv(net.conv(x, reduced), three, 3),
            net.conv(net.conv(x, small), five, 3), net.conv(net.pool(x, 3, 1), pool),
        )  # fmt: skip
    return net.classify(x, 1000)
