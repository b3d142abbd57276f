"""Sound: keyword spotting with DS-CNN (arXiv:1711.07128, as MLPerf Tiny has it), TC-ResNet8
(arXiv:1904.03814) and M11 on the raw wave (arXiv:1610.00087); separation with Conv-TasNet
(arXiv:1809.07454) and a wave-to-wave U-Net with gates (Demucs, arXiv:2006.12847, without LSTM);
a TCN (arXiv:1803.01271). All but the first are one-dimensional."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.blocks import repeats, scaled
from tests.zoo.zoo import Net, Published


class DSCNN(nn.Module):
    """One convolution, four separable ones over time and frequency, a mean."""

    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 12) -> None:
        super().__init__()
        c = scaled(64, width)
        self.pad = nn.ConstantPad2d((1, 1, 4, 5), 0.0)
        layers: list[nn.Module] = [nn.Conv2d(1, c, (10, 4), 2), nn.BatchNorm2d(c), nn.ReLU()]
        layers.append(nn.Dropout(0.2))
        for _ in range(repeats(4, depth)):
            layers += [nn.Conv2d(c, c, 3, padding="same", groups=c), nn.BatchNorm2d(c), nn.ReLU()]
            layers += [nn.Conv2d(c, c, 1), nn.BatchNorm2d(c), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Dropout(0.4))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(c, classes), nn.Softmax(dim=1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(self.pad(x))
        return self.head(F.avg_pool2d(x, (x.shape[2], x.shape[3])))


def _conv1d_bn(cin: int, cout: int, kernel: int, stride: int = 1, relu: bool = True) -> nn.Module:
    conv = nn.Conv1d(cin, cout, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm1d(cout), *([nn.ReLU()] if relu else []))


class TCResNet(nn.Module):
    """Frequencies are channels; residual blocks along time."""

    def __init__(
        self, width: float = 1.0, depth: float = 1.0, classes: int = 12, features: int = 40
    ) -> None:
        super().__init__()
        c = [scaled(n, width) for n in (16, 24, 32, 48)]
        self.stem = nn.Conv1d(features, c[0], 3, padding=1, bias=False)
        self.main, self.aside = nn.ModuleList(), nn.ModuleList()
        for cin, cout in itertools.pairwise(c):
            more = [_conv1d_bn(cout, cout, 9) for _ in range(repeats(1, depth) - 1)]
            first, last = _conv1d_bn(cin, cout, 9, 2), _conv1d_bn(cout, cout, 9, relu=False)
            self.main.append(nn.Sequential(first, *more, last))
            self.aside.append(_conv1d_bn(cin, cout, 1, 2))
        self.head = nn.Conv1d(c[3], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for main, aside in zip(self.main, self.aside, strict=True):
            y = main(x)
            y += aside(x)
            x = F.relu(y)
        x = F.dropout1d(x.mean(2, keepdim=True), 0.5, self.training)
        return self.head(x).squeeze(2)


class M11(nn.Module):
    """Very deep on the wave itself: max pools between stages, the mean over time."""

    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 10) -> None:
        super().__init__()
        c = [scaled(n, width) for n in (64, 64, 128, 256, 512)]
        self.stem = nn.Sequential(nn.Conv1d(1, c[0], 80, 4, 38), nn.BatchNorm1d(c[0]), nn.ReLU())
        self.stages = nn.ModuleList()
        for cin, cout, count in zip(c[:-1], c[1:], (2, 2, 3, 2), strict=True):
            blocks = range(repeats(count, depth))
            self.stages.append(
                nn.Sequential(*(_conv1d_bn(cout if i else cin, cout, 3) for i in blocks))
            )
        self.pool = nn.MaxPool1d(4)
        self.head = nn.Linear(c[4], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages[0](self.pool(self.stem(x)))
        x = self.stages[1](F.max_pool1d(x, 4))
        x = self.stages[2](torch.max_pool1d(x, 4))
        return self.head(torch.mean(self.stages[3](self.pool(x)), -1)).log_softmax(-1)


class _Separator(nn.Module):
    """Conv-TasNet's block: its convolution's dilation doubles from one to the next."""

    def __init__(self, channels: int, hidden: int, dilation: int) -> None:
        super().__init__()
        self.expand = nn.Conv1d(channels, hidden, 1)
        self.depthwise = nn.Conv1d(
            hidden, hidden, 3, padding=dilation, dilation=dilation, groups=hidden
        )
        self.acts = nn.ModuleList(nn.PReLU() for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden) for _ in range(2))
        self.residual, self.skip = (nn.Conv1d(hidden, channels, 1) for _ in range(2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.norms[0](self.acts[0](self.expand(x)))
        y = self.norms[1](self.acts[1](self.depthwise(y)))
        return torch.add(x, self.residual(y)), self.skip(y)


class ConvTasNet(nn.Module):
    """A learned basis, masks for each speaker, the same basis back."""

    def __init__(
        self, width: float = 1.0, depth: float = 1.0, speakers: int = 2, window: int = 16
    ) -> None:
        super().__init__()
        basis, channels, hidden = (scaled(n, width) for n in (512, 128, 512))
        self.basis = nn.Parameter(torch.randn(basis, 1, window) / window)
        self.gain, self.shift = nn.Parameter(torch.ones(basis)), nn.Parameter(torch.zeros(basis))
        self.into = nn.Conv1d(basis, channels, 1)
        self.blocks = nn.ModuleList(
            _Separator(channels, hidden, 2**i)
            for _ in range(repeats(3, depth))
            for i in range(repeats(8, depth))
        )
        self.act, self.mask = nn.PReLU(), nn.Conv1d(channels, speakers * basis, 1)
        self.speakers, self.stride = speakers, window // 2

    def forward(self, wave: Tensor) -> Tensor:
        mixture = torch.relu(F.conv1d(wave, self.basis, stride=self.stride))
        normed = F.group_norm(mixture, 1, self.gain, self.shift, 1e-8)
        x, total = self.into(normed), None
        for block in self.blocks:
            x, skip = block(x)
            total = skip if total is None else total.add(skip)
        masks = torch.sigmoid(self.mask(self.act(total)))
        parts = [mask * mixture for mask in torch.chunk(masks, self.speakers, dim=1)]
        waves = [F.conv_transpose1d(p, self.basis, stride=self.stride) for p in parts]
        return torch.cat(waves, dim=1)


class _Gate(nn.Module):
    """Half of the channels open and close the other half."""

    def forward(self, x: Tensor) -> Tensor:
        value, gate = torch.split(x, x.shape[1] // 2, dim=1)
        return value.mul(gate.sigmoid())


class Demucs(nn.Module):
    """Strided convolutions down, transposed ones up, skips added."""

    def __init__(
        self, width: float = 1.0, depth: float = 1.0, levels: int = 5, first: int = 48
    ) -> None:
        super().__init__()
        c = [1, *(scaled(first << i, width) for i in range(repeats(levels, depth)))]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for i, (cin, cout) in enumerate(itertools.pairwise(c)):
            self.down.append(nn.Sequential(
                nn.Conv1d(cin, cout, 8, 4, 2), nn.ReLU(), nn.Conv1d(cout, 2 * cout, 1), _Gate(),
            ))  # fmt: skip
            up = [nn.Conv1d(cout, 2 * cout, 1), _Gate(), nn.ConvTranspose1d(cout, cin, 8, 4, 2)]
            self.up.insert(0, nn.Sequential(*up, *([nn.ReLU()] if i else [])))

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for down in self.down:
            x = down(x)
            skips.append(x)
        for up in self.up:
            x = up(x + skips.pop())
        return x.clip_(-1.0, 1.0)


class _Causal(nn.Module):
    """Dilated convolutions that never see what comes later: what was padded too much is cut."""

    def __init__(self, cin: int, cout: int, dilation: int) -> None:
        super().__init__()
        self.cut = 2 * dilation
        self.conv1 = nn.Conv1d(cin, cout, 3, padding=self.cut, dilation=dilation)
        self.conv2 = nn.Conv1d(cout, cout, 3, padding=self.cut, dilation=dilation)
        self.norm1, self.norm2 = nn.BatchNorm1d(cout), nn.BatchNorm1d(cout)
        self.dropout = nn.Dropout1d(0.2)
        self.aside = nn.Conv1d(cin, cout, 1) if cin != cout else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.dropout(F.elu(self.norm1(self.conv1(x))[:, :, : -self.cut]))
        y = self.dropout(F.elu(self.norm2(self.conv2(y))[:, :, : -self.cut].contiguous()))
        return F.relu(y + (x if self.aside is None else self.aside(x)))


class TCN(nn.Module):
    """Causal residual blocks; a prediction for each step."""

    def __init__(
        self, width: float = 1.0, depth: float = 1.0, classes: int = 88, features: int = 88
    ) -> None:
        super().__init__()
        channels = scaled(152, width)
        levels = range(repeats(4, depth))
        self.blocks = nn.Sequential(
            *(_Causal(channels if i else features, channels, 2**i) for i in levels)
        )
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x).transpose(1, 2)).tanh()


_MLPERF = "github.com/mlcommons/tiny, keyword spotting: trainable parameters of its summary"
NETS = (
    Net("ds_cnn", DSCNN, {}, {"width": 0.25, "classes": 4}, (49, 10),
        Published(23_756, None, (49, 10), _MLPERF), channels=1),
    Net("tc_resnet8", TCResNet, {}, {"width": 0.25, "classes": 4}, (32,), channels=40),
    Net("m11", M11, {}, {"width": 0.125}, (2048,), channels=1),
    Net("conv_tasnet", ConvTasNet, {}, {"width": 0.0625, "depth": 0.25}, (128,), channels=1),
    Net("demucs", Demucs, {}, {"width": 0.125, "depth": 0.6}, (256,), channels=1),
    Net("tcn", TCN, {}, {"width": 0.125, "classes": 4}, (32,), channels=88),
)  # fmt: skip
