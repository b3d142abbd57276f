"""The shapes of YOLO detectors with published times, from the definitions that their authors
publish (Ultralytics' model files of v5u, v8 and YOLO11, v5 with anchors). Activations are tables
behind the convolutions and cost nothing; weights are zeros."""

from __future__ import annotations

from itertools import pairwise

from qatspec.api import Program
from qatspec_horizon.published.nets import Net

#: version -> size -> (depth, width, most channels)
SIZES = {
    "v5": {"n": (0.33, 0.25, 1024), "s": (0.33, 0.5, 1024), "m": (0.67, 0.75, 1024),
           "l": (1.0, 1.0, 1024), "x": (1.33, 1.25, 1024)},
    "v8": {"n": (0.33, 0.25, 1024), "s": (0.33, 0.5, 1024), "m": (0.67, 0.75, 768),
           "l": (1.0, 1.0, 512), "x": (1.0, 1.25, 512)},
    "11": {"n": (0.5, 0.25, 1024), "s": (0.5, 0.5, 1024), "m": (0.5, 1.0, 512),
           "l": (1.0, 1.0, 512), "x": (1.0, 1.5, 512)},
}  # fmt: skip


class Yolo(Net):
    """Blocks of YOLO nets, in a size."""

    def __init__(self, name: str, version: str, size: str, pixels: int) -> None:
        super().__init__(name, pixels)
        self.version = version
        self.depth, self.width, self.most = SIZES[version][size]
        if version == "v8" and pixels == 224:  # the classifiers have more channels
            self.most = 1024
        self.deep = version == "11" and size in "mlx"

    def ch(self, channels: int) -> int:
        """Channels in this size, a multiple of 8."""
        return -(-int(min(channels, self.most) * self.width) // 8) * 8

    def times(self, count: int) -> int:
        return max(1, round(count * self.depth)) if count > 1 else count

    def bottleneck(self, x: str, hidden: int, kernels: tuple[int, int], shortcut: bool) -> str:
        out = self.channels(x)
        y = self.conv(self.conv(x, hidden, kernels[0]), out, kernels[1])
        return self.add(x, y) if shortcut else y

    def c3(self, x: str, out: int, count: int, shortcut: bool, kernels: tuple[int, int]) -> str:
        hidden = out // 2
        y = self.conv(x, hidden)
        for _ in range(count):
            y = self.bottleneck(y, hidden, kernels, shortcut)
        return self.conv(self.concat(y, self.conv(x, hidden)), out)

    def c2f(self, x: str, out: int, count: int, shortcut: bool) -> str:
        hidden = out // 2
        parts = self.split(self.conv(x, 2 * hidden), hidden)
        for _ in range(count):
            parts.append(self.bottleneck(parts[-1], hidden, (3, 3), shortcut))
        return self.conv(self.concat(*parts), out)

    def c3k2(self, x: str, out: int, count: int, inner: bool, ratio: float) -> str:
        hidden = int(out * ratio)
        parts = self.split(self.conv(x, 2 * hidden), hidden)
        for _ in range(count):
            y = parts[-1]
            parts.append(
                self.c3(y, hidden, 2, True, (3, 3))
                if inner or self.deep
                else self.bottleneck(y, hidden // 2, (3, 3), True)
            )
        return self.conv(self.concat(*parts), out)

    def block(self, x: str, channels: int, count: int, shortcut: bool, ratio: float = 0.5,
              inner: bool = False) -> str:  # fmt: skip
        out, count = self.ch(channels), self.times(count)
        if self.version == "v5":
            return self.c3(x, out, count, shortcut, (1, 3))
        if self.version == "v8":
            return self.c2f(x, out, count, shortcut)
        return self.c3k2(x, out, count, inner, ratio)

    def down(self, x: str, channels: int) -> str:
        return self.conv(x, self.ch(channels), 3, 2)

    def sppf(self, x: str) -> str:
        out = self.channels(x)
        parts = [self.conv(x, out // 2)]
        for _ in range(3):
            parts.append(self.pool(parts[-1], 5, 1))
        return self.conv(self.concat(*parts), out)

    def attention(self, x: str, count: int) -> str:
        """C2PSA: half of the channels through `count` blocks of attention and a small net."""
        out = self.channels(x)
        half = out // 2
        kept, y = self.split(self.conv(x, 2 * half), half)
        heads = max(1, half // 64)
        for _ in range(count):
            y = self.add(y, self.attend(y, heads, half // heads // 2))
            y = self.add(y, self.conv(self.conv(y, 2 * half), half))
        return self.conv(self.concat(kept, y), out)

    def attend(self, x: str, heads: int, key: int) -> str:
        channels, rows, columns = self.builder.values[x].shape
        qkv, n = self.conv(x, channels + 2 * heads * key), rows * columns
        flat = self._emit("reshape", [qkv], shape=(channels + 2 * heads * key, n))
        cuts = (0, heads * key, 2 * heads * key, channels + 2 * heads * key)
        q, k, v = (
            self._emit("slice", [flat], axis=1, start=a, stop=b, step=1) for a, b in pairwise(cuts)
        )
        q = self._emit("reshape", [q], shape=(heads, key, n))
        k = self._emit("reshape", [k], shape=(heads, key, n))
        v = self._emit("reshape", [v], shape=(heads, channels // heads, n))
        turned = self._emit("transpose", [q], perm=(0, 1, 3, 2))
        weights = self.softmax(self._requant([self._emit("matmul", [turned, k])], 1))
        weights = self._emit("transpose", [weights], perm=(0, 1, 3, 2))
        y = self._requant([self._emit("matmul", [v, weights])], 1)
        y = self._emit("reshape", [y], shape=(channels, rows, columns))
        places = self._emit("reshape", [v], shape=(channels, rows, columns))
        return self.conv(self.add(y, self.conv(places, channels, 3, groups=channels)), channels)

    def classify_image(self, x: str) -> Program:
        return self.classify(self.conv(x, 1280), 1000)

    def detect(
        self, *maps: str, further: int = 0, masks: bool = False, classes: int = 80
    ) -> Program:
        """Boxes and classes of every map, without anchors (v5u, v8, YOLO11). further: numbers at
        each place besides (17 x 3 of a pose, 32 of a mask); masks: with the branch of prototypes.
        """
        first, outputs = self.channels(maps[0]), []
        for x in maps if further else ():
            hidden = max(first // 4, further)
            outputs.append(self.raw(self.conv(self.conv(x, hidden, 3), hidden, 3), further))
        if masks:
            y = self.doubled(self.conv(maps[0], self.ch(256), 3))
            outputs.append(self.conv(self.conv(y, self.ch(256), 3), 32))
        boxes, scores = max(16, first // 4, 64), max(first, classes)
        for x in maps:
            y = self.conv(self.conv(x, boxes, 3), boxes, 3)
            outputs.append(self.raw(y, 64))
            if self.version == "11":
                y = self.conv(self.conv(x, self.channels(x), 3, groups=self.channels(x)), scores)
                y = self.conv(self.conv(y, scores, 3, groups=scores), scores)
            else:
                y = self.conv(self.conv(x, scores, 3), scores, 3)
            outputs.append(self.raw(y, classes))
        return self.builder.finish(outputs)


def yolo(
    version: str, size: str, task: str = "detect", pixels: int = 640, activation: str = ""
) -> Program:
    """version: "v5", "v8" or "11". task: "detect", "anchors" (the one-layer heads of v5), "pose",
    "seg", "obb" or "cls". activation: of the convolutions, where the CPU runs it."""
    net = Yolo(f"yolo_{version}{size}_{task}", version, size, pixels)
    net.activation = activation
    eleven = version == "11"
    stem = (6, 2) if version == "v5" else (3, 2)
    x = net.conv(net.image, net.ch(64), *stem)
    x = net.block(net.down(x, 128), 256 if eleven else 128, 2 if eleven else 3, True, 0.25)
    x = net.down(x, 256)
    third = x = net.block(x, 512 if eleven else 256, 2 if eleven else 6, True, 0.25)
    x = net.down(x, 512)
    fourth = x = net.block(x, 512, 2 if eleven else 9 if version == "v5" else 6, True, 0.5, True)
    x = net.down(x, 1024)
    x = net.block(x, 1024, 2 if eleven else 3, True, 0.5, True)
    x = x if task == "cls" else net.sppf(x)
    if eleven:
        x = net.attention(x, net.times(2))
    if task == "cls":
        return net.classify_image(x)
    fifth, count = x, 2 if eleven else 3
    if version == "v5":
        fifth = net.conv(fifth, net.ch(512))
    y = net.block(net.concat(net.up(fifth), fourth), 512, count, False)
    middle = net.conv(y, net.ch(256)) if version == "v5" else y
    small = net.block(net.concat(net.up(middle), third), 256, count, False)
    middle = net.block(net.concat(net.down(small, 256), middle), 512, count, False)
    large = net.block(net.concat(net.down(middle, 512), fifth), 1024, count, False, 0.5, True)
    if task == "anchors":
        return net.builder.finish([net.raw(m, 255) for m in (small, middle, large)])
    further = {"pose": 51, "seg": 32, "obb": 1}.get(task, 0)
    classes = 15 if task == "obb" else 80
    return net.detect(small, middle, large, further=further, masks=task == "seg", classes=classes)
