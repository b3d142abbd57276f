"""One-dimensional series: MelGAN's generator and discriminators (arXiv:1910.06711), SCINet
(arXiv:2106.09305), Informer (arXiv:2012.07436; rotary positions, arXiv:2104.09864, in its encoder),
a 1-d ResNet with gates and with soft thresholds (deep residual shrinkage, Zhao et al. 2019)."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.blocks import repeats, scaled
from tests.zoo.zoo import Net, Published


class _Dilated(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.pad = nn.ReflectionPad1d(dilation)
        self.first = nn.Conv1d(channels, channels, 3, dilation=dilation)
        self.second, self.aside = (nn.Conv1d(channels, channels, 1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(self.pad(F.leaky_relu(x, 0.2)))
        return self.aside(x) + self.second(F.leaky_relu_(y, 0.2))


class MelGAN(nn.Module):
    """A spectrogram to a wave: transposed convolutions with dilated residual blocks between."""

    def __init__(
        self,
        width: float = 1.0,
        depth: float = 1.0,
        rates: tuple[int, ...] = (8, 8, 2, 2),
        features: int = 80,
    ) -> None:
        super().__init__()
        channels = scaled(512, width)
        layers: list[nn.Module] = [nn.ReflectionPad1d(3), nn.Conv1d(features, channels, 7)]
        for rate in rates:
            half = channels // 2
            layers.append(nn.LeakyReLU(0.2))
            layers.append(
                nn.ConvTranspose1d(channels, half, 2 * rate, rate, (rate + 1) // 2, rate % 2)
            )
            layers += [_Dilated(half, 3**i) for i in range(repeats(3, depth))]
            channels = half
        self.layers = nn.Sequential(*layers, nn.LeakyReLU(0.2))
        self.pad, self.last = nn.ReflectionPad1d(3), nn.Conv1d(channels, 1, 7)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh_(self.last(self.pad(self.layers(x))))


class MelGANDiscriminators(nn.Module):
    """The same net for the wave and for its smoothed copies; all intermediate maps are returned."""

    def __init__(self, width: float = 1.0, depth: float = 1.0, scales: int = 3) -> None:
        super().__init__()
        c = [scaled(n, width) for n in (16, 64, 256, 1024, 1024)]
        groups = (1, 4, 16, 64, 256)
        self.scales = nn.ModuleList()
        for _ in range(scales):
            layers = [nn.Sequential(nn.ReflectionPad1d(7), nn.Conv1d(1, c[0], 15))]
            layers += [
                nn.Conv1d(c[i - 1], c[i], 41, 4, 20, groups=min(groups[i], c[i - 1] // 4))
                for i in range(1, repeats(5, depth))
            ]
            last = len(layers) - 1
            layers += [
                nn.Conv1d(c[last], c[last], 5, padding=2),
                nn.Conv1d(c[last], 1, 3, padding=1),
            ]
            self.scales.append(nn.ModuleList(layers))
        self.smooth = nn.AvgPool1d(4, 2, padding=1, count_include_pad=False)

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        found = []
        for i, layers in enumerate(self.scales):
            if i == 1:
                x = F.avg_pool1d(x, 4, 2, 1)
            elif i == 2:
                x = torch.avg_pool1d(x, 4, 2, 1)
            maps = []
            y = x
            for layer in layers:
                y = layer(y)
                maps.append(y)
                y = F.leaky_relu(y, 0.2)
            found.append(maps)
        return [*found, [self.smooth(x)]]


class _Interact(nn.Module):
    """SCINet's block: even and odd steps scale and shift each other."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.nets = nn.ModuleList(
            nn.Sequential(
                nn.ReplicationPad1d((3, 3)), nn.Conv1d(channels, hidden, 5),
                nn.LeakyReLU(0.01, True),
                nn.Dropout(0.5), nn.Conv1d(hidden, channels, 3), nn.Tanh(),
            )
            for _ in range(4)
        )  # fmt: skip

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        even, odd = x[:, :, ::2], x[:, :, 1::2]
        a, b, c, d = self.nets
        odd_scaled = odd.mul(a(even).exp())
        even_scaled = even.mul(torch.exp(b(odd)))
        return even_scaled.add(c(odd_scaled)), odd_scaled.sub(d(even_scaled))


class _Tree(nn.Module):
    def __init__(self, channels: int, hidden: int, levels: int) -> None:
        super().__init__()
        self.block = _Interact(channels, hidden)
        inner = levels > 1
        self.even = _Tree(channels, hidden, levels - 1) if inner else nn.Identity()
        self.odd = _Tree(channels, hidden, levels - 1) if inner else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        even, odd = self.block(x)
        pair = torch.stack([self.even(even), self.odd(odd)], dim=3)
        return pair.flatten(2)


class SCINet(nn.Module):
    """A binary tree over even and odd steps, then a linear map to the steps to come."""

    def __init__(
        self, width: float = 1.0, depth: float = 1.0, steps: int = 96, ahead: int = 24,
        features: int = 7, levels: int = 3,
    ) -> None:  # fmt: skip
        super().__init__()
        self.tree = _Tree(features, scaled(4 * features, width, 4), repeats(levels, depth))
        self.head = nn.Conv1d(steps, ahead, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.tree(x)
        return self.head(y.permute(0, 2, 1)).permute(0, 2, 1)


class _Rotary(nn.Module):
    """Attention whose queries and keys are turned by angles that grow with their places."""

    def __init__(self, channels: int, places: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(channels, channels) for _ in range(3))
        self.project, self.root = nn.Linear(channels, channels), channels**0.5
        rates = 1e4 ** (-torch.arange(0, channels, 2) / channels)
        angles = (torch.arange(places)[:, None] * rates).repeat(1, 2)
        self.register_buffer("cosine", angles.cos())
        self.register_buffer("sine", angles.sin())

    def _turned(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=-1)
        return x * self.cosine + torch.cat((b.neg(), a), dim=-1) * self.sine

    def _back(self, x: Tensor) -> Tensor:
        a, b = x.split(x.shape[-1] // 2, dim=-1)
        return x * self.cosine + torch.cat((torch.neg(b), a), dim=-1) * self.sine

    def forward(self, x: Tensor) -> Tensor:
        query, key = self._turned(self.query(x)), self._back(self.key(x))
        score = torch.bmm(query, key.transpose(1, 2)).div(self.root)
        return self.project(torch.softmax(score, -1).bmm(self.value(x)))


class Informer(nn.Module):
    """Attention, then a convolution and a max pool that halve the series; each series is normed by
    itself."""

    def __init__(
        self, width: float = 1.0, depth: float = 1.0, steps: int = 96, features: int = 7,
        outputs: int = 24,
    ) -> None:  # fmt: skip
        super().__init__()
        channels, layers = scaled(512, width), repeats(3, depth)
        norm, pad = nn.InstanceNorm1d(features, affine=True), nn.CircularPad1d(1)
        self.into = nn.Sequential(norm, pad, nn.Conv1d(features, channels, 3))
        self.hours = nn.Embedding(24, channels)
        self.register_buffer("hour", torch.arange(steps) % 24)
        self.attention = nn.ModuleList(_Rotary(channels, steps >> i) for i in range(layers))
        self.first = nn.ModuleList(nn.Linear(channels, 4 * channels) for _ in range(layers))
        self.second = nn.ModuleList(nn.Linear(4 * channels, channels) for _ in range(layers))
        self.scales = nn.ParameterList(nn.Parameter(torch.ones(channels)) for _ in range(layers))
        self.shifts = nn.ParameterList(nn.Parameter(torch.zeros(channels)) for _ in range(layers))
        self.distil = nn.ModuleList(
            nn.Sequential(
                nn.CircularPad1d(1), nn.Conv1d(channels, channels, 3), nn.BatchNorm1d(channels),
                nn.ELU(), nn.MaxPool1d(3, 2, 1),
            )
            for _ in range(layers - 1)
        )  # fmt: skip
        self.head = nn.Linear(channels, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.into(x).transpose(1, 2) + self.hours(self.hour)
        shape = (x.shape[-1],)
        for i, attend in enumerate(self.attention):
            x = F.layer_norm(x + attend(x), shape, self.scales[i], self.shifts[i])
            y = self.second[i](F.gelu(self.first[i](x)))
            x = torch.layer_norm(x + y, shape, self.scales[i], self.shifts[i])
            if i < len(self.distil):
                x = self.distil[i](x.transpose(1, 2)).transpose(1, 2)
        return self.head(x.mean(dim=1))


class InformerDecoder(nn.Module):
    """The decoder's context of queries that are not chosen: the sum of the values so far, in both
    halves of the channels (there for heads)."""

    def __init__(
        self, width: float = 1.0, depth: float = 1.0, features: int = 7, outputs: int = 7
    ) -> None:
        super().__init__()
        channels, layers = scaled(512, width), repeats(2, depth)
        self.into = nn.Conv1d(features, channels, 3, padding=1)
        self.value = nn.ModuleList(nn.Linear(channels, channels) for _ in range(layers))
        self.project = nn.ModuleList(nn.Linear(channels, channels) for _ in range(layers))
        self.norm = nn.ModuleList(nn.LayerNorm(channels) for _ in range(layers))
        self.head = nn.Linear(channels, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.into(x).transpose(1, 2)
        for value, project, norm in zip(self.value, self.project, self.norm, strict=True):
            a, b = value(x).chunk(2, dim=-1)
            context = torch.cat((torch.cumsum(a, dim=1), b.cumsum(-2)), dim=-1)
            x = norm(x + project(context))
        return self.head(x)


class _Shrink(nn.Module):
    """Residual block that moves small values to zero; what is small, a gate says per channel."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(cin, cout, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv1d(cout, cout, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm1d(cout), nn.BatchNorm1d(cout)
        self.fc1, self.fc2 = nn.Linear(cout, cout), nn.Linear(cout, cout)
        self.gate = nn.Hardsigmoid()
        self.pool = nn.AvgPool1d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
        self.aside = nn.Conv1d(cin, cout, 1, bias=False) if cin != cout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.hardswish(self.norm1(self.conv1(x)))))
        mean = F.adaptive_avg_pool1d(y.abs(), 1).flatten(1)
        threshold = mean * self.gate(self.fc2(F.relu(self.fc1(mean))))
        size = abs(y)
        size -= torch.unsqueeze(threshold, 2)
        y = torch.sign(y) * size.clamp_(min=0.0)
        return y + self.aside(self.pool(x))


class ShrinkageNet(nn.Module):
    """Means, maxima and signed second moments of what is left at the end, and its sizes' maxima."""

    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 10) -> None:
        super().__init__()
        c = [scaled(n, width) for n in (64, 64, 128, 256, 512)]
        self.pad = nn.ConstantPad1d((3, 3), 0.0)
        layers: list[nn.Module] = [nn.Conv1d(1, c[0], 7, 2), nn.BatchNorm1d(c[0]), nn.ReLU()]
        for i, (cin, cout) in enumerate(itertools.pairwise(c)):
            strides = [2 if i else 1] + [1] * (repeats(2, depth) - 1)
            layers += [_Shrink(cout if j else cin, cout, s) for j, s in enumerate(strides)]
        self.layers = nn.Sequential(nn.ZeroPad1d(0), *layers)
        self.mean, self.most = nn.AdaptiveAvgPool1d(1), nn.AdaptiveMaxPool1d(1)
        self.head = nn.Linear(5 * c[4], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(self.pad(x))
        squares = torch.pow(x, 2)
        pooled = [
            self.mean(x), self.most(x.sgn() * x),
            torch.adaptive_avg_pool1d(squares * torch.sgn(x), 1),
            F.adaptive_max_pool1d(x * x.sign(), 2),
        ]  # fmt: skip
        return self.head(torch.cat([p.flatten(1) for p in pooled], dim=1))


NETS = (
    Net(
        "melgan", MelGAN, {}, {"width": 0.0625, "depth": 0.3, "rates": (2, 2)}, (12,),
        Published(4_260_000, None, (10,), "arXiv:1910.06711, table 1"), channels=80,
    ),
    Net("melgan_discriminators", MelGANDiscriminators, {}, {"width": 0.25, "depth": 0.4}, (64,),
        channels=1),
    Net("scinet", SCINet, {}, {"width": 0.125, "steps": 16, "ahead": 4, "levels": 2}, (16,),
        channels=7),
    Net("informer", Informer, {}, {"width": 0.03125, "steps": 16}, (16,), channels=7),
    Net("informer_decoder", InformerDecoder, {}, {"width": 0.03125}, (16,), channels=7),
    Net("shrinkage_net", ShrinkageNet, {}, {"width": 0.125, "depth": 0.5}, (64,), channels=1),
)  # fmt: skip
