"""Networks whose forward returns something else in training than in evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE = (32, 48)


def images(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(seed))


def conv(i: int, o: int, stride: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(i, o, 3, stride, 1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(o), nn.ReLU())


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = conv(3, 8, 2), conv(8, 8, 2)


class Anchors(Net):
    """Anchor boxes from a buffer, grids made in forward and kept (YOLOv5)."""

    def __init__(self) -> None:
        super().__init__()
        self.m = nn.ModuleList(nn.Conv2d(8, 2 * 7, 1) for _ in range(2))
        self.register_buffer("anchors", torch.tensor([[[3.0, 4], [5, 6]], [[9, 8], [7, 12]]]))
        self.grid = [torch.empty(0) for _ in range(2)]
        self.stride = torch.tensor([2.0, 4.0])

    def forward(self, x: Tensor) -> Any:
        x = self.stem(x)
        feats, z = [x, self.down(x)], []
        for i in range(2):
            feats[i] = self.m[i](feats[i])
            bs, _, ny, nx = feats[i].shape
            feats[i] = feats[i].view(bs, 2, 7, ny, nx).permute(0, 1, 3, 4, 2).contiguous()
            if not self.training:
                if self.grid[i].shape[2:4] != feats[i].shape[2:4]:
                    yv, xv = torch.meshgrid(torch.arange(ny), torch.arange(nx), indexing="ij")
                    self.grid[i] = torch.stack((xv, yv), 2).view(1, 1, ny, nx, 2).float()
                xy, wh, conf = feats[i].sigmoid().split((2, 2, 3), 4)
                xy = (xy * 2 - 0.5 + self.grid[i]) * self.stride[i]
                wh = (wh * 2) ** 2 * self.anchors[i].view(1, 2, 1, 1, 2)
                z.append(torch.cat((xy, wh, conf), 4).view(bs, 2 * ny * nx, 7))
        return feats if self.training else (torch.cat(z, 1), feats)


class Distribution(Net):
    """A distribution over distances, whose mean a fixed convolution computes (YOLOv8)."""

    def __init__(self) -> None:
        super().__init__()
        self.box, self.cls = nn.Conv2d(8, 16, 1), nn.Conv2d(8, 3, 1)
        self.dfl = nn.Conv2d(4, 1, 1, bias=False).requires_grad_(False)
        self.dfl.weight.data[:] = torch.arange(4.0).view(1, 4, 1, 1)

    def forward(self, x: Tensor) -> Any:
        x = self.stem(x)
        feats = [torch.cat((self.box(f), self.cls(f)), 1) for f in (x, self.down(x))]
        if self.training:
            return feats
        shape = feats[0].shape
        flat = torch.cat([f.view(shape[0], 19, -1) for f in feats], 2)
        box, cls = flat.split((16, 3), 1)
        n = box.shape[-1]
        dist = self.dfl(box.view(shape[0], 4, 4, n).transpose(2, 1).softmax(1)).view(-1, 4, n)
        lt, rb = dist.chunk(2, 1)
        points = torch.stack([torch.arange(n) % 7, torch.arange(n) // 7]).float() + 0.5
        a, b = points - lt, points + rb
        return torch.cat((torch.cat(((a + b) / 2, b - a), 1), cls.sigmoid()), 1), feats


class Decoupled(Net):
    """Exponential sizes; the scores' sigmoid is applied in evaluation alone (YOLOX)."""

    def __init__(self) -> None:
        super().__init__()
        self.reg, self.obj = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Any:
        x = self.down(self.stem(x))
        reg, obj = self.reg(x), self.obj(x)
        if self.training:
            return {"reg": reg, "obj": obj}
        out = torch.cat([reg, obj.sigmoid()], 1)
        hw = out.shape[-2:]
        out = out.flatten(start_dim=2).permute(0, 2, 1)
        yv, xv = torch.meshgrid(torch.arange(hw[0]), torch.arange(hw[1]), indexing="ij")
        grid = torch.stack((xv, yv), 2).view(1, -1, 2).type_as(out)
        xy, wh = (out[..., :2] + grid) * 4, torch.exp(out[..., 2:4]) * 4
        return torch.cat([xy, wh, out[..., 4:]], -1)


class Segments(Net):
    """Enlarges, and chooses the class, in evaluation alone."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Any:
        size = x.shape[-2:]
        y = self.head(self.down(self.stem(x)))
        if self.training:
            return y
        return F.interpolate(y, size=size, mode="bilinear", align_corners=False).softmax(1)


class Auxiliary(Segments):
    """A head with batch norm and dropout that training alone runs (DeepLab, PSPNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.aux = nn.Sequential(conv(8, 4), nn.Dropout(0.1), nn.Conv2d(4, 5, 1))

    def forward(self, x: Tensor) -> Any:
        size = x.shape[-2:]
        early = self.stem(x)
        result = {"out": self.head(self.down(early))}
        if self.training:
            result["aux"] = F.interpolate(self.aux(early), size=size, mode="bilinear")
        return result


class Absent(Auxiliary):
    """None in place of the auxiliary output (torchvision's and HRNet's results)."""

    def forward(self, x: Tensor) -> Any:
        early = self.stem(x)
        out = self.head(self.down(early))
        return {"out": out, "aux": self.aux(early) if self.training else None}


class Middle(Net):
    """Auxiliary classifiers in the middle, functional dropout behind them (GoogLeNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.aux, self.fc = nn.Linear(8, 5), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Any:
        x = self.stem(x)
        aux = self.aux(x.mean((2, 3))) if self.training else None
        x = F.dropout(self.down(x), 0.2, self.training).mean((2, 3))
        x = self.fc(x)
        return (x, aux) if self.training else x


class Normed(Net):
    """A batch norm and a scale in the post-process."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.norm = nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4)
        self.factor = nn.Parameter(torch.tensor([1.5]))
        self.norm.running_mean.fill_(0.25)

    def forward(self, x: Tensor) -> Any:
        y = self.head(self.down(self.stem(x)))
        return [y] if self.training else {"y": self.norm(y) * self.factor, "best": y.argmax(1)}


class Inner(nn.Module):
    """The differing forward is that of a module inside."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Anchors()

    def forward(self, x: Tensor) -> Any:
        return self.net(x)


class Cached(Distribution):
    """Anchors that a generator gives are kept on the module for the next call (YOLOv8)."""

    shape = None

    def forward(self, x: Tensor) -> Any:
        feats = [self.box(f) for f in (self.stem(x), self.down(self.stem(x)))]
        if self.training:
            return feats
        shape = feats[0].shape
        if self.shape != shape:
            made = (self.row(f, s) for f, s in zip(feats, torch.tensor([2.0, 4.0]), strict=True))
            self.strides, self.shape = torch.cat(list(made)).transpose(0, 1), shape
        flat = torch.cat([f.view(shape[0], 16, -1) for f in feats], 2)
        return flat.sigmoid() * self.strides, feats

    def row(self, f: Tensor, stride: Tensor) -> Tensor:
        return torch.full((f.shape[2] * f.shape[3], 1), stride, dtype=f.dtype, device=f.device)


class Typed(Decoupled):
    """The grid is cast to the type that the image's tensor names (YOLOX)."""

    def forward(self, x: Tensor) -> Any:
        y = self.reg(self.down(self.stem(x)))
        if self.training:
            return y
        grid = torch.arange(y.shape[3]).view(1, 1, 1, -1).type(x[0].type())
        y[:, :2] = (y[:, :2] + grid) * 4
        return y


class Filled(Decoupled):
    """Boxes are assigned, part by part, into a tensor of one of torch's old types (YOLOv3)."""

    def forward(self, x: Tensor) -> Any:
        y = self.reg(self.down(self.stem(x)))
        if self.training:
            return y
        FloatTensor = torch.cuda.FloatTensor if x.is_cuda else torch.FloatTensor
        n, (h, w) = y.size(0), y.shape[2:]
        stride = SIZE[0] / h
        columns = torch.arange(w).repeat(h, 1).view([1, h, w]).type(FloatTensor)
        anchors = FloatTensor([(3 / stride, 4 / stride)])
        boxes = FloatTensor(y.shape)
        boxes[:, :2] = torch.sigmoid(y[:, :2]) + columns
        boxes[:, 2] = torch.exp(y[:, 2].data) * anchors[:, 0:1]
        boxes[:, 3] = torch.exp(y[:, 3].data) * anchors[:, 1:2]
        return boxes.view(n, 4, -1) * stride


class Peaks(Segments):
    """The best places of a heat map: pooling, comparison, topk, gather (CenterNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(3, 1, 1)

    def forward(self, x: Tensor) -> Any:
        y = self.head(self.down(self.stem(x)))
        if self.training:
            return {"heat": y}
        heat = y.sigmoid_()
        heat = heat * (self.pool(heat) == heat).float()
        score, index = torch.topk(heat.view(heat.shape[0], -1), 1)
        return {"score": score, "value": y.flatten(1).gather(1, index)}


class Guided(Segments):
    """The post-process reads the image too."""

    def forward(self, x: Tensor) -> Any:
        y = self.head(self.down(self.stem(x)))
        return y if self.training else F.interpolate(y, x.shape[2:]) * x.mean(1, keepdim=True)


NETS: list[Callable[[], nn.Module]] = [
    Anchors, Distribution, Decoupled, Segments, Auxiliary, Absent, Middle, Normed,
    Inner, Cached, Typed, Filled, Peaks, Guided,
]  # fmt: skip
