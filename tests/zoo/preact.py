"""ResNet V2: batch norm and ReLU before each convolution, He et al. 2016, arXiv:1603.05027. The
stride sits in the first convolution of a block."""

from __future__ import annotations

import torch
from torch import nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.zoo import PYTORCHCV, Net, Published


class PreActivation(nn.Module):
    """Batch norm, ReLU, then two 3x3 convolutions of which the first is folded with the second's
    batch norm; the shortcut's convolution starts from the activated input."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(cin)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1, bias=False)
        self.project = stride != 1 or cin != cout
        if self.project:
            self.shortcut = nn.Conv2d(cin, cout, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        active = self.relu1(self.bn1(x))
        out = self.conv2(self.relu2(self.bn2(self.conv1(active))))
        return out.add_(self.shortcut(active) if self.project else x)


class PreActResNet(nn.Module):
    def __init__(
        self,
        blocks: tuple[int, int, int, int] = (2, 2, 2, 2),
        width: float = 1.0,
        depth: float = 1.0,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        cin = scaled(64, width)
        self.stem = conv_bn(3, cin, 7, 2)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.body = nn.Sequential()
        for i, count in enumerate(blocks):
            cout = scaled(64 << i, width)
            for j in range(repeats(count, depth)):
                self.body.append(PreActivation(cin, cout, 2 if i > 0 and j == 0 else 1))
                cin = cout
        self.last = nn.Sequential(nn.BatchNorm2d(cin), nn.ReLU())
        self.output = nn.Linear(cin, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.last(self.body(self.pool(self.stem(x))))
        return self.output(x.mean([2, 3]))


NETS = (
    Net(
        "preact_resnet18",
        PreActResNet,
        public={},
        tiny={"width": 0.125, "depth": 0.5, "classes": 10},
        tiny_size=(64, 64),
        published=Published(11_687_848, 1_820_560_000, (224, 224), PYTORCHCV),
    ),
)
