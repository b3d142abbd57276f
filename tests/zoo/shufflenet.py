"""ShuffleNet V1 (3 groups), Zhang et al. 2017, arXiv:1707.01083, table 1; V2, Ma et al. 2018,
arXiv:1807.11164, table 5."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.zoo import PYTORCHCV, TORCHVISION, Net, Published


def shuffle(x: torch.Tensor, groups: int) -> torch.Tensor:
    """Channels of the groups in turn."""
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class ShuffleV1(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1; a stride concatenates an average."""

    def __init__(self, cin: int, cout: int, stride: int, groups: int, first: int) -> None:
        super().__init__()
        branch, inner = cout - cin if stride == 2 else cout, cout // 4
        self.groups, self.stride = groups, stride
        self.compress = conv_bn(cin, inner, groups=first)
        self.filter = conv_bn(inner, inner, 3, stride, inner, act=None)
        self.expand = conv_bn(inner, branch, groups=groups, act=None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = shuffle(self.compress(x), self.groups)
        out = self.expand(self.filter(out))
        if self.stride == 2:
            pooled = F.avg_pool2d(x, kernel_size=3, stride=2, padding=1)
            return F.relu(torch.cat((pooled, out), dim=1))
        return F.relu(x + out)


class ShuffleNetV1(nn.Module):
    def __init__(
        self, groups: int = 3, width: float = 1.0, depth: float = 1.0, classes: int = 1000
    ) -> None:
        super().__init__()
        cin = scaled(24, width, 4 * groups)
        self.stem = conv_bn(3, cin, 3, 2)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.stages = nn.Sequential()
        for i, (channels, count) in enumerate(zip((240, 480, 960), (4, 8, 4), strict=True)):
            cout = scaled(channels, width, 4 * groups)
            for j in range(repeats(count, depth)):
                first = 1 if i == j == 0 else groups  # the first 1x1 of all is not grouped
                self.stages.append(ShuffleV1(cin, cout, 2 if j == 0 else 1, groups, first))
                cin = cout
        self.fc = nn.Linear(cin, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stages(self.maxpool(self.stem(x)))
        x = F.avg_pool2d(x, x.shape[-2:])
        return self.fc(x.flatten(start_dim=1))


class ShuffleV2(nn.Module):
    """Half of the channels goes through 1x1, depthwise 3x3, 1x1; then a shuffle of two groups. A
    stride sends all of them both ways."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        half = cout // 2
        self.stride = stride
        start = cin if stride == 2 else half
        if stride == 2:
            self.left = nn.Sequential(
                conv_bn(cin, cin, 3, 2, cin, act=None), conv_bn(cin, half)
            )  # fmt: skip
        self.right = nn.Sequential(
            conv_bn(start, half), conv_bn(half, half, 3, stride, half, act=None),
            conv_bn(half, half),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.stride == 2:
            out = torch.cat([self.left(x), self.right(x)], dim=1)
        else:
            keep, work = x.chunk(2, dim=1)
            out = torch.cat([keep, self.right(work)], dim=1)
        return torch.flatten(self._shuffle(out), 1, 2)

    @staticmethod
    def _shuffle(x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.size()
        return torch.transpose(torch.reshape(x, (n, 2, c // 2, h, w)), 1, 2).contiguous()


class ShuffleNetV2(nn.Module):
    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        cin = scaled(24, width)
        self.conv1 = conv_bn(3, cin, 3, 2)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        blocks = []
        for channels, count in ((116, 4), (232, 8), (464, 4)):
            cout = scaled(channels, width, 4)
            for i in range(repeats(count, depth)):
                blocks.append(ShuffleV2(cin, cout, 2 if i == 0 else 1))
                cin = cout
        self.stages = nn.Sequential(*blocks)
        last = scaled(1024, width)
        self.conv5 = conv_bn(cin, last)
        self.fc = nn.Linear(last, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv5(self.stages(self.maxpool(self.conv1(x))))
        return self.fc(torch.mean(x, [2, 3]))


NETS = (
    Net(
        "shufflenet_v1_g3",
        ShuffleNetV1,
        public={},
        tiny={"width": 0.2, "depth": 0.5, "classes": 10},
        tiny_size=(64, 64),
        published=Published(
            1_865_728, 137_000_000, (224, 224), f"{PYTORCHCV}; MACs: the paper, table 1"
        ),
    ),
    Net(
        "shufflenet_v2_x1_0",
        ShuffleNetV2,
        public={},
        tiny={"width": 0.25, "depth": 0.5, "classes": 10},
        tiny_size=(64, 64),
        published=Published(2_278_604, 145_000_000, (224, 224), TORCHVISION),
    ),
)
