"""PointPillars, Lang et al. 2018, arXiv:1812.05784: what follows once pillars lie in a picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.zoo.blocks import repeats, scaled
from tests.zoo.zoo import Net


class PointPillars(nn.Module):
    """Three blocks, each upsampled to half of the picture's size; anchors at each place."""

    def __init__(
        self, width: float = 1.0, depth: float = 1.0, classes: int = 3, anchors: int = 6
    ) -> None:
        super().__init__()
        c, up = [scaled(n, width) for n in (64, 128, 256)], scaled(128, width)
        self.blocks, self.ups = nn.ModuleList(), nn.ModuleList()
        for i, (cin, cout, count) in enumerate(zip((64, *c[:2]), c, (3, 5, 5), strict=True)):
            layers: list[nn.Module] = [nn.ZeroPad2d(1), nn.Conv2d(cin, cout, 3, 2, bias=False)]
            layers += [nn.BatchNorm2d(cout, 1e-3, 0.01), nn.ReLU()]
            for _ in range(repeats(count, depth)):
                layers += [nn.Conv2d(cout, cout, 3, padding=1, bias=False)]
                layers += [nn.BatchNorm2d(cout, 1e-3, 0.01), nn.ReLU()]
            self.blocks.append(nn.Sequential(*layers))
            deconv = nn.ConvTranspose2d(cout, up, 2**i, 2**i, bias=False)
            self.ups.append(nn.Sequential(deconv, nn.BatchNorm2d(up, 1e-3, 0.01), nn.ReLU()))
        self.label = nn.Conv2d(3 * up, anchors * classes, 1)
        self.box = nn.Conv2d(3 * up, anchors * 7, 1)
        self.split = nn.Unflatten(1, (anchors, 7))
        self.direction = nn.Conv2d(3 * up, anchors * 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        found = []
        for block, up in zip(self.blocks, self.ups, strict=True):
            x = block(x)
            found.append(up(x))
        x = torch.cat(found, dim=1)
        box = torch.unbind(self.split(self.box(x)), dim=2)
        size = torch.stack(box[3:6], dim=2).clip(-4.0, 4.0)
        return {
            "labels": torch.sigmoid(self.label(x)),
            "places": torch.stack([*box[:3], box[6]], dim=2),
            "sizes": torch.exp(size),
            "directions": self.direction(x),
        }


NETS = (
    Net("pointpillars", PointPillars, {}, {"width": 0.125, "depth": 0.4}, (32, 32), channels=64),
)
