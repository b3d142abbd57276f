"""The shapes of YOLOv9 (GELAN) and YOLOv10 with published times, as Ultralytics' model files define
them, as they run: re-parametrised branches are folded, YOLOv10 has its one-to-one heads alone."""

from __future__ import annotations

from qatspec.api import Program
from qatspec_horizon.published.nets import Net
from qatspec_horizon.published.yolos import Yolo


class Gelan(Net):
    """Blocks of YOLOv9."""

    def rep_csp(self, x: str, out: int, count: int) -> str:
        hidden = out // 2
        y = self.conv(x, hidden)
        for _ in range(count):
            y = self.add(y, self.conv(self.conv(y, hidden, 3), hidden, 3))
        return self.conv(self.concat(y, self.conv(x, hidden)), out)

    def elan(self, x: str, out: int, wide: int, deep: int, count: int) -> str:
        """RepNCSPELAN4; count 0: ELAN1."""
        parts = self.split(self.conv(x, wide), wide // 2)
        for _ in range(2):
            y = self.rep_csp(parts[-1], deep, count) if count else parts[-1]
            parts.append(self.conv(y, deep, 3))
        return self.conv(self.concat(*parts), out)

    def average(self, x: str) -> str:
        """A mean over 2x2 with stride 1, one row and column fewer."""
        window = {"kernel": (2, 2), "stride": (1, 1), "padding": (0,) * 4}
        return self._requant([self._emit("sum_pool", [x], **window)], self.channels(x))

    def a_conv(self, x: str, out: int) -> str:
        return self.conv(self.average(x), out, 3, 2)

    def a_down(self, x: str, out: int) -> str:
        first, second = self.split(self.average(x), self.channels(x) // 2)
        pooled = self.conv(self.pool(second, 3, 2), out // 2)
        return self.concat(self.conv(first, out // 2, 3, 2), pooled)

    def spp(self, x: str, out: int, hidden: int) -> str:
        parts = [self.conv(x, hidden)]
        for _ in range(3):
            parts.append(self.pool(parts[-1], 5, 1))
        return self.conv(self.concat(*parts), out)

    def fuse(self, wanted: str, *others: str) -> str:
        """CBFuse: every map enlarged to the size of the last one, and all of them added."""
        size = self.builder.values[wanted].shape[1:]
        enlarged = [
            o
            if self.builder.values[o].shape[1:] == size
            else self._emit("resize_nearest", [o], size=size)
            for o in others
        ]
        for other in enlarged:
            wanted = self.add(wanted, other)
        return wanted

    def heads(self, *maps: str, masks: int = 0) -> Program:
        """Boxes and classes of every map; masks: channels of the branch of prototypes."""
        outputs = []
        first = self.channels(maps[0])
        for x in maps if masks else ():
            hidden = max(first // 4, 32)
            outputs.append(self.raw(self.conv(self.conv(x, hidden, 3), hidden, 3), 32))
        if masks:
            y = self.doubled(self.conv(maps[0], masks, 3))
            outputs.append(self.conv(self.conv(y, masks, 3), 32))
        boxes, scores = max(16, first // 4, 64), max(first, 80)
        for x in maps:
            for hidden, out in ((boxes, 64), (scores, 80)):
                outputs.append(self.raw(self.conv(self.conv(x, hidden, 3), hidden, 3), out))
        return self.builder.finish(outputs)


def yolov9s() -> Program:
    net = Gelan("yolov9s", 640)
    x = net.conv(net.conv(net.image, 32, 3, 2), 64, 3, 2)
    x = net.elan(x, 64, 64, 32, 0)
    third = x = net.elan(net.a_conv(x, 128), 128, 128, 64, 3)
    fourth = x = net.elan(net.a_conv(x, 192), 192, 192, 96, 3)
    x = net.elan(net.a_conv(x, 256), 256, 256, 128, 3)
    fifth = net.spp(x, 256, 128)
    y = net.elan(net.concat(net.up(fifth), fourth), 192, 192, 96, 3)
    small = net.elan(net.concat(net.up(y), third), 128, 128, 64, 3)
    middle = net.elan(net.concat(net.a_conv(small, 96), y), 192, 192, 96, 3)
    large = net.elan(net.concat(net.a_conv(middle, 128), fifth), 256, 256, 128, 3)
    return net.heads(small, middle, large)


def yolov9c(*, masks: bool = False) -> Program:
    net = Gelan("yolov9c", 640)
    x = net.conv(net.conv(net.image, 64, 3, 2), 128, 3, 2)
    x = net.elan(x, 256, 128, 64, 1)
    third = x = net.elan(net.a_down(x, 256), 512, 256, 128, 1)
    fourth = x = net.elan(net.a_down(x, 512), 512, 512, 256, 1)
    x = net.elan(net.a_down(x, 512), 512, 512, 256, 1)
    return _neck_c(net, third, fourth, net.spp(x, 512, 256), 1, 512, masks)


def _neck_c(
    net: Gelan, third: str, fourth: str, fifth: str, count: int, last: int, masks: bool = False
) -> Program:
    y = net.elan(net.concat(net.up(fifth), fourth), 512, 512, 256, count)
    small = net.elan(net.concat(net.up(y), third), 256, 256, 128, count)
    middle = net.elan(net.concat(net.a_down(small, 256), y), 512, 512, 256, count)
    joined = net.concat(net.a_down(middle, 512), fifth)
    large = net.elan(joined, 512, last, last // 2, count)
    return net.heads(small, middle, large, masks=256 if masks else 0)


def yolov9e() -> Program:
    net = Gelan("yolov9e", 640)
    widths = (64, 128, 256, 512, 1024)
    first = net.conv(net.image, 64, 3, 2)
    second = net.elan(net.conv(first, 128, 3, 2), 256, 128, 64, 2)
    third = net.elan(net.a_down(second, 256), 512, 256, 128, 2)
    fourth = net.elan(net.a_down(third, 512), 1024, 512, 256, 2)
    fifth = net.elan(net.a_down(fourth, 1024), 1024, 512, 256, 2)
    sources = (first, second, third, fourth, fifth)
    # CBLinear: source i makes a map for each of the first i + 1 levels
    split = []
    for i, source in enumerate(sources):
        wide, start, cuts = net.conv(source, sum(widths[: i + 1])), 0, []
        for width in widths[: i + 1]:
            cut = {"axis": 1, "start": start, "stop": start + width, "step": 1}
            cuts.append(net._emit("slice", [wide], **cut))
            start += width
        split.append(cuts)

    def level(x: str, i: int) -> str:
        return net.fuse(x, *(cuts[i] for cuts in split[i:]))

    x = level(net.conv(net.image, 64, 3, 2), 0)
    x = net.elan(level(net.conv(x, 128, 3, 2), 1), 256, 128, 64, 2)
    third = x = net.elan(level(net.a_down(x, 256), 2), 512, 256, 128, 2)
    fourth = x = net.elan(level(net.a_down(x, 512), 3), 1024, 512, 256, 2)
    x = net.elan(level(net.a_down(x, 1024), 4), 1024, 512, 256, 2)
    return _neck_c(net, third, fourth, net.spp(x, 512, 256), 2, 1024)


#: size -> stages 6, 8, 13, 19 and 22 (of Ultralytics' files) whose blocks are C2fCIB, and whether
#: those have kernels of 7
_INVERTED = {
    "n": ((22,), True),
    "s": ((8, 22), True),
    "m": ((8, 19, 22), False),
    "l": ((8, 13, 19, 22), False),
    "x": ((6, 8, 13, 19, 22), False),
}


class Ten(Yolo):
    """Blocks of YOLOv10: depths and widths of YOLOv8, heads and attention of YOLO11."""

    def __init__(self, size: str) -> None:
        super().__init__(f"yolov10{size}", "v8", size, 640)
        self.version, self.size = "11", size

    def separable_down(self, x: str, channels: int) -> str:
        out = self.ch(channels)
        return self.conv(self.conv(x, out), out, 3, 2, groups=out)

    def inverted(self, x: str, kernel: int, shortcut: bool) -> str:
        """CIB."""
        channels = self.channels(x)
        y = self.conv(self.conv(x, channels, 3, groups=channels), 2 * channels)
        y = self.conv(y, 2 * channels, kernel, groups=2 * channels)
        y = self.conv(self.conv(y, channels), channels, 3, groups=channels)
        return self.add(x, y) if shortcut else y

    def stage(self, x: str, number: int, channels: int, count: int, shortcut: bool) -> str:
        out, count = self.ch(channels), self.times(count)
        inverted, large = _INVERTED[self.size]
        if number not in inverted:
            return self.c2f(x, out, count, shortcut)
        kernel = 7 if large else 3
        parts = self.split(self.conv(x, out), out // 2)
        for _ in range(count):
            parts.append(self.inverted(parts[-1], kernel, True))
        return self.conv(self.concat(*parts), out)


def yolov10(size: str, activation: str = "") -> Program:
    net = Ten(size)
    net.activation = activation
    x = net.stage(net.down(net.conv(net.image, net.ch(64), 3, 2), 128), 2, 128, 3, True)
    third = x = net.stage(net.down(x, 256), 4, 256, 6, True)
    fourth = x = net.stage(net.separable_down(x, 512), 6, 512, 6, True)
    x = net.stage(net.separable_down(x, 1024), 8, 1024, 3, True)
    fifth = net.attention(net.sppf(x), 1)
    y = net.stage(net.concat(net.up(fifth), fourth), 13, 512, 3, False)
    small = net.stage(net.concat(net.up(y), third), 16, 256, 3, False)
    middle = net.stage(net.concat(net.down(small, 256), y), 19, 512, 3, False)
    joined = net.concat(net.separable_down(middle, 512), fifth)
    large = net.stage(joined, 22, 1024, 3, False)
    return net.detect(small, middle, large)
