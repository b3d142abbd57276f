"""Small pictures: the VGG of BinaryConnect (arXiv:1511.00363), whose activations are clipped at -1
and 1, or at learned bounds (arXiv:1805.06085), with pooling that does not alias
(arXiv:1904.11486); a ResNet with triplet attention (arXiv:2010.03045)."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.zoo import Net


class _MaxBlur(nn.Module):
    """A dense maximum, then every second pixel of its binomial mean."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        line = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", torch.outer(line, line).repeat(channels, 1, 1, 1))
        self.pad, self.channels = nn.ReplicationPad2d(1), channels

    def forward(self, x: Tensor) -> Tensor:
        x = self.pad(F.max_pool2d(x, 2, 1, ceil_mode=False))
        return torch.conv2d(x, self.kernel, stride=2, groups=self.channels)


class ClippedVGG(nn.Module):
    """Six convolutions, three linear layers; the input is normalized inside, and the scores are
    mixed by two matrices, as those of noisy labels are."""

    def __init__(
        self, width: float = 1.0, depth: float = 1.0, classes: int = 10, grid: int = 4
    ) -> None:
        super().__init__()
        c = [scaled(n, width) for n in (128, 256, 512)]
        hidden = scaled(1024, width)
        self.register_buffer("mean", torch.tensor([0.49, 0.48, 0.45]).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor([0.25, 0.24, 0.26]).view(1, 3, 1, 1))
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        for cin, cout in zip((3, *c[:2]), c, strict=True):
            for i in range(repeats(2, depth)):
                self.convs.append(nn.Conv2d(cout if i else cin, cout, 3, padding=1))
                self.norms.append(nn.BatchNorm2d(cout))
        self.pools = nn.ModuleList(_MaxBlur(n) for n in c)
        self.each = len(self.convs) // 3
        self.bound = nn.Parameter(torch.tensor(2.0))
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(c[2] * grid**2, hidden), nn.BatchNorm1d(hidden), nn.Hardtanh(),
            nn.Linear(hidden, hidden), nn.BatchNorm1d(hidden), nn.Hardtanh(inplace=True),
            nn.Linear(hidden, classes), nn.BatchNorm1d(classes),
        )  # fmt: skip
        self.confusion = nn.Parameter(torch.eye(classes) + 0.1 / classes)
        self.register_buffer("order", torch.eye(classes).flip(0))

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone().sub_(self.mean).div_(self.deviation)
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x))
            last = (i + 1) % self.each == 0
            x = self.pools[i // self.each](x) if last else x
            if i // self.each == 0:
                x = F.hardtanh_(x)
            elif i // self.each == 1:
                x = F.hardtanh(x, min_val=-1.0, max_val=1.0)
            else:
                x = F.relu(x).minimum(self.bound) if last else torch.minimum(x.relu(), self.bound)
        return torch.mm(self.classifier(x), self.confusion).mm(self.order)


class _Triplet(nn.Module):
    """Each pair of dims gates the values, from the mean and the maximum over the third."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(conv_bn(2, 1, 7, act=None) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        turned = x.permute(0, 2, 1, 3)
        both = torch.cat((turned.max(1)[0].unsqueeze(1), turned.mean(1).unsqueeze(1)), dim=1)
        a = (turned * torch.sigmoid(self.convs[0](both))).permute(0, 2, 1, 3)
        turned = torch.transpose(x, 1, 3)
        both = torch.cat((turned.amax(1, keepdim=True), turned.mean(1, True)), dim=1)
        b = torch.transpose(turned * self.convs[1](both).sigmoid_(), 1, 3)
        both = torch.cat((torch.amax(x, dim=1, keepdim=True), x.mean(dim=1, keepdim=True)), dim=1)
        c = x * self.convs[2](both).sigmoid()
        return (a + b + c) / 3


class _Block(nn.Module):
    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv_bn(cin, cout, 3, stride), conv_bn(cout, cout, 3, act=None)
        self.attention = _Triplet()
        same = stride == 1 and cin == cout
        self.downsample = nn.Identity() if same else conv_bn(cin, cout, 1, stride, act=None)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.attention(self.conv2(self.conv1(x))) + self.downsample(x))


class TripletResNet(nn.Module):
    """ResNet-18 with three gates in each block; means and maxima at the end."""

    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 100) -> None:
        super().__init__()
        c = [scaled(n, width) for n in (64, 64, 128, 256, 512)]
        layers: list[nn.Module] = [conv_bn(3, c[0], 3)]
        for i, (cin, cout) in enumerate(itertools.pairwise(c)):
            strides = [2 if i else 1] + [1] * (repeats(2, depth) - 1)
            layers += [_Block(cout if j else cin, cout, s) for j, s in enumerate(strides)]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(2 * c[4], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(x)
        pooled = (F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1))
        return self.head(torch.cat(pooled, dim=1).flatten(1))


NETS = (
    Net("vgg_clipped", ClippedVGG, {}, {"width": 0.0625, "grid": 2}, (16, 16)),
    Net(
        "resnet18_triplet",
        TripletResNet,
        {},
        {"width": 0.125, "depth": 0.5, "classes": 4},
        (16, 16),
    ),
)
