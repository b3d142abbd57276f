"""The shapes of small classifiers with published times, as they run (branches that are
re-parametrised are folded), as timm defines them: RepViT, RepGhost, MobileNetV4, FastViT."""

from __future__ import annotations

from qatspec.api import Program
from qatspec_horizon.published.classifiers import Classifier


def repvit(
    name: str, widths: tuple[int, ...], depths: tuple[int, ...], activation: str = ""
) -> Program:
    """activation: that of the wide layers, where the CPU runs it."""
    net = Classifier(name, 224)
    net.activation = activation
    x = net.conv(net.image, widths[0] // 2, 3, 2)
    net.activation = ""
    x = net.conv(x, widths[0], 3, 2)

    def mix(x: str, width: int) -> str:
        net.activation = activation
        y = net.conv(x, 2 * width)
        net.activation = ""
        return net.conv(y, width, residual=x)

    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        if stage:
            before = widths[stage - 1]
            x = mix(net.conv(x, before, 3, groups=before), before)
            x = mix(net.conv(net.conv(x, before, 3, 2, groups=before), width), width)
        for i in range(depth):
            x = net.conv(x, width, 3, groups=width)
            x = mix(net.excite(x, max(8, (width // 4 + 4) // 8 * 8)) if i % 2 == 0 else x, width)
    return net.classify(x, 1000)


#: (kernel, hidden, out, excited, stride)
_GHOST = [
    (3, 8, 16, 0, 1), (3, 24, 24, 0, 2), (3, 36, 24, 0, 1), (5, 36, 40, 1, 2), (5, 60, 40, 1, 1),
    (3, 120, 80, 0, 2), (3, 100, 80, 0, 1), (3, 120, 80, 0, 1), (3, 120, 80, 0, 1),
    (3, 240, 112, 1, 1), (3, 336, 112, 1, 1), (5, 336, 160, 1, 2), (5, 480, 160, 0, 1),
    (5, 480, 160, 1, 1), (5, 480, 160, 0, 1), (5, 480, 160, 1, 1),
]  # fmt: skip


def repghost(name: str, width: float) -> Program:
    net = Classifier(name, 224)

    def ch(channels: float) -> int:
        return max(4, int(channels * width + 2) // 4 * 4)

    def ghost(x: str, out: int, residual: str | None = None) -> str:
        y = net.conv(x, out)
        return net.conv(y, out, 3, groups=out, residual=residual)

    x = net.conv(net.image, ch(16), 3, 2)
    for kernel, hidden, out, excited, stride in _GHOST:
        shortcut, inside, outside = x, ch(hidden), ch(out)
        if stride == 2 or net.channels(x) != outside:
            shortcut = net.conv(x, net.channels(x), kernel, stride, groups=net.channels(x))
            shortcut = net.conv(shortcut, outside)
        y = ghost(x, inside)
        y = net.conv(y, inside, kernel, 2, groups=inside) if stride == 2 else y
        y = net.excite(y, max(4, (inside // 4 + 2) // 4 * 4)) if excited else y
        x = ghost(y, outside, residual=shortcut)
    x = net.conv(x, ch(960))
    pooled = net._requant([net._emit("reduce_sum", [x], axes=(2, 3), keepdim=True)], ch(960))
    return net.classify(net.conv(pooled, 1280), 1000)


#: kind, repeats, kernel before, kernel in the middle, stride, expansion, out
Row = tuple[str, int, int, int, int, int, int]
_V4_SMALL: list[Row] = [
    ("conv", 1, 0, 3, 2, 1, 32), ("conv", 1, 0, 1, 1, 1, 32),
    ("conv", 1, 0, 3, 2, 1, 96), ("conv", 1, 0, 1, 1, 1, 64),
    ("both", 1, 5, 5, 2, 3, 96), ("both", 4, 0, 3, 1, 2, 96), ("both", 1, 3, 0, 1, 4, 96),
    ("both", 1, 3, 3, 2, 6, 128), ("both", 1, 5, 5, 1, 4, 128), ("both", 1, 0, 5, 1, 4, 128),
    ("both", 1, 0, 5, 1, 3, 128), ("both", 2, 0, 3, 1, 4, 128), ("conv", 1, 0, 1, 1, 1, 960),
]  # fmt: skip
_V4_MEDIUM: list[Row] = [
    ("edge", 1, 0, 3, 2, 4, 48), ("both", 1, 3, 5, 2, 4, 80), ("both", 1, 3, 3, 1, 2, 80),
    ("both", 1, 3, 5, 2, 6, 160), ("both", 2, 3, 3, 1, 4, 160), ("both", 1, 3, 5, 1, 4, 160),
    ("both", 1, 3, 3, 1, 4, 160), ("both", 1, 3, 0, 1, 4, 160), ("both", 1, 0, 0, 1, 2, 160),
    ("both", 1, 3, 0, 1, 4, 160), ("both", 1, 5, 5, 2, 6, 256), ("both", 1, 5, 5, 1, 4, 256),
    ("both", 2, 3, 5, 1, 4, 256), ("both", 1, 0, 0, 1, 4, 256), ("both", 1, 3, 0, 1, 4, 256),
    ("both", 1, 3, 5, 1, 2, 256), ("both", 1, 5, 5, 1, 4, 256), ("both", 2, 0, 0, 1, 4, 256),
    ("both", 1, 5, 0, 1, 2, 256), ("conv", 1, 0, 1, 1, 1, 960),
]  # fmt: skip


def mobilenet_v4(name: str) -> Program:
    """name: "mobilenetv4_conv_small" or "mobilenetv4_conv_medium"."""
    net = Classifier(name, 224)
    x = net.conv(net.image, 32, 3, 2)
    for kind, repeats, before, middle, first, expansion, out in (
        _V4_SMALL if name.endswith("small") else _V4_MEDIUM
    ):
        for repeat in range(repeats):
            stride = first if repeat == 0 else 1
            channels = net.channels(x)
            hidden = channels * expansion
            same = x if stride == 1 and channels == out else None
            if kind == "conv":
                x = net.conv(x, out, middle, stride)
            elif kind == "edge":
                x = net.conv(net.conv(x, hidden, middle, stride), out, residual=same)
            else:
                early = stride if not middle else 1
                y = net.conv(x, channels, before, early, groups=channels) if before else x
                y = net.conv(y, hidden)
                y = net.conv(y, hidden, middle, stride, groups=hidden) if middle else y
                x = net.conv(y, out, residual=same)
    pooled = net._requant([net._emit("reduce_sum", [x], axes=(2, 3), keepdim=True)], 960)
    return net.classify(net.conv(pooled, 1280), 1000)


def fastvit_t8() -> Program:
    net = Classifier("fastvit_t8", 224)
    x = net.conv(net.image, 48, 3, 2)
    x = net.conv(net.conv(x, 48, 3, 2, groups=48), 48)
    for stage, depth in enumerate((2, 2, 4, 2)):
        width = 48 << stage
        if stage:
            x = net.conv(net.conv(x, width, 7, 2, groups=width // 2), width)
        for _ in range(depth):
            x = net.conv(x, width, 3, groups=width)
            y = net.conv(net.conv(x, width, 7, groups=width), 3 * width)
            x = net.conv(y, width, residual=x)
    x = net.conv(x, 768, 3, groups=384)
    return net.classify(net.excite(x, 48), 1000)
