"""Segmentation on dilated ResNets: FCN (arXiv:1411.4038), DeepLabV3 (arXiv:1706.05587), DeepLabV3+
(arXiv:1802.02611), PSPNet (arXiv:1612.01105); and on a feature pyramid (arXiv:1901.02446)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.blocks import conv_bn, repeats, scaled
from tests.zoo.features import ResNetFeatures
from tests.zoo.zoo import TORCHVISION, Net, Published


def _resize(x: Tensor, like: Tensor, align_corners: bool = False) -> Tensor:
    size = like.shape[-2:]
    return F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)


def _fcn_head(cin: int, classes: int) -> nn.Sequential:
    return nn.Sequential(
        conv_bn(cin, cin // 4, 3), nn.Dropout(0.1), nn.Conv2d(cin // 4, classes, 1)
    )


def bilinear_kernel(factor: int) -> Tensor:
    """Shape (1, 1, 2 factor, 2 factor): a transposed convolution with it upsamples bilinearly."""
    line = 1 - (torch.arange(2 * factor) + 0.5 - factor).abs() / factor
    return torch.outer(line, line)[None, None]


class FCN(nn.Module):
    """Heads on the last two stages, upsampled by a fixed deconvolution."""

    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 21) -> None:
        super().__init__()
        self.body = ResNetFeatures(50, width, depth, dilated=2)
        self.head = _fcn_head(self.body.channels[3], classes)
        self.aux = _fcn_head(self.body.channels[2], classes)
        self.register_buffer("kernel", bilinear_kernel(8).repeat(classes, 1, 1, 1))
        self.classes = classes

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.body(x)
        return {
            "out": self._up(self.head(features[3])),
            "aux": self._up(self.aux(features[2])),
        }

    def _up(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.kernel, None, 8, 4, groups=self.classes)


class ASPP(nn.Module):
    """Dilated convolutions beside each other, and the mean of the whole picture."""

    def __init__(self, cin: int, cout: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [conv_bn(cin, cout), *(conv_bn(cin, cout, 3, dilation=rate) for rate in rates)]
        )
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv_bn(cin, cout))
        self.project = conv_bn((len(rates) + 2) * cout, cout)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        found = [branch(x) for branch in self.branches]
        found.append(_resize(self.pooled(x), x))
        return self.dropout(self.project(torch.cat(found, dim=1)))


class DeepLabV3(nn.Module):
    """ASPP at stride 8, an auxiliary head on the third stage."""

    def __init__(self, width: float = 1.0, depth: float = 1.0, classes: int = 21) -> None:
        super().__init__()
        self.body = ResNetFeatures(50, width, depth, dilated=2)
        channels = scaled(256, width)
        self.head = nn.Sequential(
            ASPP(self.body.channels[3], channels, (12, 24, 36)),
            conv_bn(channels, channels, 3),
            nn.Conv2d(channels, classes, 1),
        )
        self.aux = _fcn_head(self.body.channels[2], classes)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.body(x)
        return {
            "out": _resize(self.head(features[3]), x), "aux": _resize(self.aux(features[2]), x),
        }  # fmt: skip


class DeepLabV3Plus(nn.Module):
    """ASPP at stride 16 joined with the first stage, separable convolutions behind it."""

    def __init__(
        self, layers: int = 18, width: float = 1.0, depth: float = 1.0, classes: int = 19
    ) -> None:
        super().__init__()
        self.body = ResNetFeatures(layers, width, depth, dilated=1)
        channels, low = scaled(256, width), scaled(48, width)
        self.aspp = ASPP(self.body.channels[3], channels, (6, 12, 18))
        self.low = conv_bn(self.body.channels[0], low)
        self.decoder = nn.Sequential(
            conv_bn(channels + low, channels + low, 3, groups=channels + low, act=None),
            conv_bn(channels + low, channels),
            conv_bn(channels, channels, 3, groups=channels, act=None),
            conv_bn(channels, channels),
        )
        self.head = nn.Conv2d(channels, classes, 1)
        self.up = nn.UpsamplingBilinear2d(scale_factor=4)

    def forward(self, x: Tensor) -> Tensor:
        features = self.body(x)
        up = self.up(self.aspp(features[-1]))
        return self.up(self.head(self.decoder(torch.cat([up, self.low(features[0])], dim=-3))))


class PSPNet(nn.Module):
    """Means over grids of 1, 2, 3 and 6 cells a side, with synchronized batch norms."""

    def __init__(
        self, layers: int = 50, width: float = 1.0, depth: float = 1.0, classes: int = 19
    ) -> None:
        super().__init__()
        self.body = ResNetFeatures(layers, width, depth, dilated=2)
        cin = self.body.channels[3]
        channels = scaled(512, width)
        self.grids = (1, 2, 3, 6)
        self.pools = nn.ModuleList(self._conv(cin, channels, 1) for _ in self.grids)
        self.head = nn.Sequential(
            self._conv(cin + 4 * channels, channels, 3),
            nn.Dropout2d(0.1),
            nn.Conv2d(channels, classes, 1),
        )

    @staticmethod
    def _conv(cin: int, cout: int, kernel: int) -> nn.Sequential:
        conv = nn.Conv2d(cin, cout, kernel, padding=kernel // 2, bias=False)
        return nn.Sequential(conv, nn.SyncBatchNorm(cout), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)[-1]
        parts = [y]
        for grid, conv in zip(self.grids, self.pools, strict=True):
            mean = F.adaptive_avg_pool2d(y, (grid, grid))
            parts.append(_resize(conv(mean), y, align_corners=True))
        return _resize(self.head(torch.concat(parts, dim=1)), x, align_corners=True)


class FrozenBatchNorm2d(nn.Module):
    """A batch norm that never moves, as detectors that train with tiny batches have it."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, getattr(norm, name).detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, training=False
        )


class PanopticFPN(nn.Module):
    """The semantic half: each level upsampled to stride 4 in steps, group norm, then their sum."""

    def __init__(
        self, layers: int = 50, width: float = 1.0, depth: float = 1.0, classes: int = 54
    ) -> None:
        super().__init__()
        self.body = ResNetFeatures(layers, width, depth)
        for parent in list(self.body.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.BatchNorm2d):
                    setattr(parent, name, FrozenBatchNorm2d(child))
        channels, small = scaled(256, width), scaled(128, width)
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in self.body.channels)
        self.smooth = nn.ModuleList(nn.Conv2d(channels, channels, 3, 1, 1) for _ in range(4))
        self.scales = nn.ModuleList()
        for level in range(4):
            layers_: list[nn.Module] = []
            for i in range(repeats(level, depth)):
                layers_ += [
                    nn.Conv2d(small if i else channels, small, 3, 1, 1, bias=False),
                    nn.GroupNorm(4, small), nn.ReLU(),
                ]  # fmt: skip
            self.scales.append(nn.Sequential(*layers_))
        self.head = nn.Conv2d(small, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = [conv(f) for conv, f in zip(self.lateral, self.body(x), strict=True)]
        for i in (2, 1, 0):
            inner[i] = inner[i] + F.interpolate(inner[i + 1], scale_factor=2)
        total = None
        for conv, scale, level in zip(self.smooth, self.scales, inner, strict=True):
            y = scale(conv(level))
            y = y if total is None else _resize(y, total)
            total = y if total is None else total + y
        return F.interpolate(self.head(total), None, 4, "bilinear", False)


_VOC = (520, 520)
_TINY = {"width": 0.125, "depth": 0.25, "classes": 3}
NETS = (
    Net("fcn_r50", FCN, {}, _TINY, (64, 64),
        Published(35_322_218, 152_717_000_000, _VOC, TORCHVISION)),
    Net("deeplabv3_r50", DeepLabV3, {}, _TINY, (64, 64),
        Published(42_004_074, 178_722_000_000, _VOC, TORCHVISION)),
    Net("deeplabv3plus_r18", DeepLabV3Plus, {}, _TINY, (64, 64)),
    Net("pspnet_r50", PSPNet, {}, _TINY, (96, 96)),
    Net("panoptic_fpn_r50", PanopticFPN, {}, {**_TINY, "layers": 18}, (64, 64)),
)  # fmt: skip
