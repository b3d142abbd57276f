"""The task of the comparison: two nets, pictures of digits in clutter, one float training.

Every peer begins with the same float weights, sees the same batches in the same order, and is
judged on the same pictures. Nothing is downloaded: the digits are those of scikit-learn (1797
real ones of 8 x 8), each drawn once or more at a random size and position, over strokes of others.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 64  # pixels
BATCH = 16
CALIBRATION = 8  # batches
VAL = 512  # pictures


class _Block(nn.Module):
    """The basic block of ResNet (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.down = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
        ) if stride != 1 or inputs != outputs else nn.Identity()  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(y)) + self.down(x))


class ResNet(nn.Module):
    """ResNet-18 with half of its channels: 2.8 million weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 7, 2, 3, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )  # fmt: skip
        widths = ((32, 32, 1), (32, 64, 2), (64, 128, 2), (128, 256, 2))
        self.body = nn.Sequential(
            *(block for i, o, s in widths for block in (_Block(i, o, s), _Block(o, o, 1)))
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.body(self.stem(x))).flatten(1))


class _Inverted(nn.Module):
    """The inverted residual of EfficientNet-Lite: ReLU6, no squeeze and excitation."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        middle = inputs * expand
        layers: list[nn.Module] = []
        if expand != 1:
            layers += [nn.Conv2d(inputs, middle, 1, bias=False), nn.BatchNorm2d(middle), nn.ReLU6()]
        depthwise = nn.Conv2d(
            middle, middle, kernel, stride, kernel // 2, groups=middle, bias=False
        )
        layers += [depthwise, nn.BatchNorm2d(middle), nn.ReLU6()]
        layers += [nn.Conv2d(middle, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.body = nn.Sequential(*layers)
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.skip else self.body(x)


class Lite(nn.Module):
    """The shape of EfficientNet-Lite0, with one block of each repeat less: 2 million weights."""

    def __init__(self) -> None:
        super().__init__()
        rows = (  # outputs, kernel, stride, expansion, blocks
            (16, 3, 1, 1, 1), (24, 3, 2, 6, 2), (40, 5, 2, 6, 2), (80, 3, 2, 6, 2),
            (112, 5, 1, 6, 2), (192, 5, 2, 6, 2), (320, 3, 1, 6, 1),
        )  # fmt: skip
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6()
        )
        blocks, inputs = [], 32
        for outputs, kernel, stride, expand, count in rows:
            for index in range(count):
                blocks.append(
                    _Inverted(inputs, outputs, kernel, stride if index == 0 else 1, expand)
                )
                inputs = outputs
        self.body = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(320, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.body(self.stem(x))).flatten(1))


#: Processes in which `costs.py` prepares each net: peak memory is one figure of a process.
PROCESSES = 3
NETS: dict[str, type[nn.Module]] = {"resnet18": ResNet, "lite0": Lite}
#: Steps of float training that each net gets.
FLOAT_STEPS = {"resnet18": 400, "lite0": 2000}


class Pictures:
    """Cluttered digits. The pictures of training and of val have no digit in common."""

    def __init__(self) -> None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        self._images = torch.tensor(digits.images / 16, dtype=torch.float32)[:, None]
        self._labels = torch.tensor(digits.target)
        order = torch.randperm(len(self._labels), generator=torch.Generator().manual_seed(0))
        self._train, self._val = order[500:], order[:500]

    def _draw(self, rng: np.random.Generator, members: Tensor, count: int) -> tuple[Tensor, Tensor]:
        chosen = members[rng.integers(len(members), size=count)]
        pictures = torch.zeros(count, 3, SIDE, SIDE)
        for row, index in enumerate(chosen):
            for _ in range(3):  # clutter: pieces of other digits
                piece = self._images[members[rng.integers(len(members))]][None, :, 2:6, 2:6]
                self._put(pictures[row], piece, rng, int(rng.integers(10, 20)), 0.7)
            self._put(pictures[row], self._images[index][None], rng, int(rng.integers(28, 52)), 1.0)
        noise = rng.normal(0, 0.1, tuple(pictures.shape)).astype(np.float32)
        return pictures + torch.from_numpy(noise), self._labels[chosen]

    @staticmethod
    def _put(
        picture: Tensor, what: Tensor, rng: np.random.Generator, side: int, strength: float
    ) -> None:
        drawn = F.interpolate(what, size=(side, side), mode="bilinear", align_corners=False)[0]
        top, left = rng.integers(0, SIDE - side + 1, size=2)
        colour = torch.from_numpy(rng.uniform(0.3, 1.0, size=(3, 1, 1)).astype(np.float32))
        window = picture[:, top : top + side, left : left + side]
        window.copy_(torch.maximum(window, strength * colour * drawn))

    def batches(self, seed: int, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        """`count` batches of training pictures, the same ones for a seed."""
        rng = np.random.default_rng([1, seed])
        for _ in range(count):
            yield self._draw(rng, self._train, BATCH)

    def val(self) -> tuple[Tensor, Tensor]:
        """VAL pictures and labels, the same ones every time."""
        return self._draw(np.random.default_rng([2]), self._val, VAL)


def optimizer(net: nn.Module, rate: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in net.parameters() if p.requires_grad], rate, momentum=0.9)


def step(net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, labels: Tensor) -> float:
    """One step of training; returns the loss."""
    loss = F.cross_entropy(net(x), labels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def trained_in_float(name: str, pictures: Pictures, folder: Path) -> nn.Module:
    """The net with its float weights, in eval mode: trained once, and read afterwards."""
    torch.manual_seed(0)
    net = NETS[name]()
    file = folder / f"{name}.float.pt"
    if file.exists():
        net.load_state_dict(torch.load(file))
        return net.eval()
    steps = FLOAT_STEPS[name]
    updates = torch.optim.AdamW(net.parameters())
    rates = torch.optim.lr_scheduler.OneCycleLR(updates, 0.003, total_steps=steps)
    for x, labels in pictures.batches(1000, steps):
        step(net, updates, x, labels)
        rates.step()
    torch.save(net.state_dict(), file)
    return net.eval()
