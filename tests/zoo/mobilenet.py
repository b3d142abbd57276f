"""MobileNet V1, Howard et al. 2017, arXiv:1704.04861, table 1; V2, Sandler et al. 2018,
arXiv:1801.04381, table 2; V3, Howard et al. 2019, arXiv:1905.02244, tables 1 and 2."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.zoo import TORCHVISION, Net, Published


class MobileNetV1(nn.Module):
    """Depthwise and pointwise convolutions in turn."""

    #: channels of a stage's blocks; from the second stage on, the first block strides
    STAGES = ((64,), (128,) * 2, (256,) * 2, (512,) * 6, (1024,) * 2)

    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        cin = scaled(32, width)
        self.stem = conv_bn(3, cin, 3, 2)
        self.depthwise, self.pointwise = nn.ModuleList(), nn.ModuleList()
        for i, stage in enumerate(self.STAGES):
            for j, channels in enumerate(stage[: repeats(len(stage), depth)]):
                # the published order: a stage's stride is in its own first block
                stride = 2 if i > 0 and j == 0 else 1
                self.depthwise.append(conv_bn(cin, cin, 3, stride, cin))
                self.pointwise.append(conv_bn(cin, cout := scaled(channels, width)))
                cin = cout
        self.fc = nn.Linear(cin, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for depthwise, pointwise in zip(self.depthwise, self.pointwise, strict=True):
            x = pointwise(depthwise(x))
        return self.fc(x.mean(3).mean(2))


class InvertedResidual(nn.Module):
    """V2: expand, filter, project without activation."""

    def __init__(self, cin: int, cout: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = cin * expand
        self.expand = conv_bn(cin, hidden, act=nn.ReLU6) if expand != 1 else None
        self.filter = conv_bn(hidden, hidden, 3, stride, hidden, act=None)
        self.project = nn.Conv2d(hidden, cout, 1, bias=False)
        self.norm = nn.BatchNorm2d(cout)
        self.residual = stride == 1 and cin == cout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = x if self.expand is None else self.expand(x)
        out = self.norm(self.project(F.relu6(self.filter(out))))
        return x + out if self.residual else out


class MobileNetV2(nn.Module):
    #: expansion, channels, count, stride
    TABLE = (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
        (6, 320, 1, 1),
    )  # fmt: skip

    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        cin = scaled(32, width)
        layers: list[nn.Module] = [conv_bn(3, cin, 3, 2, act=nn.ReLU6)]
        for expand, channels, count, stride in self.TABLE:
            cout = scaled(channels, width)
            for i in range(repeats(count, depth)):
                layers.append(InvertedResidual(cin, cout, stride if i == 0 else 1, expand))
                cin = cout
        last = scaled(1280, width)
        self.features = nn.Sequential(*layers, conv_bn(cin, last, act=nn.ReLU6))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.adaptive_avg_pool2d(self.features(x), (1, 1)).reshape(x.shape[0], -1)
        return self.classifier(x)


class Gate(nn.Module):
    """V3: squeeze and excitation with a hard sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = scaled(channels / 4)
        self.fc1, self.fc2 = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = F.adaptive_avg_pool2d(x, 1)
        gate = F.hardsigmoid(self.fc2(F.relu(self.fc1(gate), inplace=True)))
        return torch.multiply(gate, x)


class BneckV3(nn.Module):
    """V3: an inverted residual of any hidden width, gated if asked."""

    def __init__(
        self, cin: int, kernel: int, hidden: int, cout: int, gate: bool, hard: bool, stride: int
    ) -> None:
        super().__init__()
        act = nn.Hardswish if hard else nn.ReLU
        layers = [conv_bn(cin, hidden, act=act)] if hidden != cin else []
        layers.append(conv_bn(hidden, hidden, kernel, stride, hidden, act=act))
        if gate:
            layers.append(Gate(hidden))
        self.block = nn.Sequential(*layers, conv_bn(hidden, cout, act=None))
        self.residual = stride == 1 and cin == cout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x).add(x) if self.residual else self.block(x)


#: kernel, hidden, channels, gate, hard swish, stride; a stage a line
LARGE = (
    ((3, 16, 16, False, False, 1),),
    ((3, 64, 24, False, False, 2), (3, 72, 24, False, False, 1)),
    ((5, 72, 40, True, False, 2), (5, 120, 40, True, False, 1), (5, 120, 40, True, False, 1)),
    ((3, 240, 80, False, True, 2), (3, 200, 80, False, True, 1), (3, 184, 80, False, True, 1),
     (3, 184, 80, False, True, 1)),
    ((3, 480, 112, True, True, 1), (3, 672, 112, True, True, 1)),
    ((5, 672, 160, True, True, 2), (5, 960, 160, True, True, 1), (5, 960, 160, True, True, 1)),
)  # fmt: skip
_SMALL = (
    ((3, 16, 16, True, False, 2),),
    ((3, 72, 24, False, False, 2), (3, 88, 24, False, False, 1)),
    ((5, 96, 40, True, True, 2), (5, 240, 40, True, True, 1), (5, 240, 40, True, True, 1)),
    ((5, 120, 48, True, True, 1), (5, 144, 48, True, True, 1)),
    ((5, 288, 96, True, True, 2), (5, 576, 96, True, True, 1), (5, 576, 96, True, True, 1)),
)  # fmt: skip


class MobileNetV3(nn.Module):
    def __init__(
        self,
        table: tuple[tuple[tuple[int, int, int, bool, bool, int], ...], ...],
        last: int,
        width: float = 1.0,
        depth: float = 1.0,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        cin = scaled(16, width)
        layers = [conv_bn(3, cin, 3, 2, act=nn.Hardswish)]
        for stage in table:
            for kernel, hidden, channels, gate, hard, stride in stage[: repeats(len(stage), depth)]:
                cout = scaled(channels, width)
                wide = scaled(hidden, width)
                layers.append(BneckV3(cin, kernel, wide, cout, gate, hard, stride))
                cin = cout
        self.features = nn.Sequential(*layers, conv_bn(cin, 6 * cin, act=nn.Hardswish))
        self.classifier = nn.Sequential(
            nn.Linear(6 * cin, hidden := scaled(last, width)), nn.Hardswish(), nn.Dropout(0.2),
            nn.Linear(hidden, classes),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean(dim=(-2, -1)))


_SIZE = (224, 224)

NETS = (
    Net(
        "mobilenet_v1",
        MobileNetV1,
        public={},
        tiny={"width": 0.25, "depth": 0.5, "classes": 10},
        tiny_size=(64, 64),
        published=Published(
            4_231_976,
            569_000_000,
            _SIZE,
            "Keras applications: trainable; MACs: the paper's table 4",
        ),
    ),
    Net(
        "mobilenet_v2",
        MobileNetV2,
        public={},
        tiny={"width": 0.25, "depth": 0.5, "classes": 10},
        tiny_size=(64, 64),
        published=Published(3_504_872, 301_000_000, _SIZE, TORCHVISION),
    ),
    Net(
        "mobilenet_v3_large",
        partial(MobileNetV3, LARGE, 1280),
        public={},
        tiny={"width": 0.25, "depth": 0.1, "classes": 10},
        tiny_size=(64, 64),
        published=Published(5_483_032, 217_000_000, _SIZE, TORCHVISION),
    ),
    Net(
        "mobilenet_v3_small",
        partial(MobileNetV3, _SMALL, 1024),
        public={},
        tiny={"width": 0.25, "depth": 0.5, "classes": 10},
        tiny_size=(64, 64),
        published=Published(2_542_856, None, _SIZE, TORCHVISION),
    ),
)
