"""Ten small nets, one for each pattern that most models are made of.

Every number in them is a multiple of a power of two, and so are the scales that are set for their
activations: what becomes of them is the same on every machine.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.graph import Prepared
from qatspec.prepare import prepare, set_stage
from qatspec.prepare.stage import weight_fake_quants
from qatspec.quant.fake_quant import FakeQuantize


def conv_bn(cin: int, cout: int, kernel: int = 3, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(cin, cout, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(cout, eps=0.0))


class ConvBnRelu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.relu = conv_bn(3, 4), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.body(x))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.second = conv_bn(3, 4), conv_bn(4, 4), conv_bn(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        return F.relu(x + self.second(F.relu(self.first(x))))


class SharedHead(nn.Module):
    """Convs shared by two levels, with a batch norm for each level."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.pool = conv_bn(3, 4), nn.MaxPool2d(2)
        self.tower = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(4, eps=0.0) for _ in range(2))
        self.predict = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu(self.stem(x))
        maps = (x, self.pool(x))
        return [
            self.predict(F.relu(norm(self.tower(y))))
            for y, norm in zip(maps, self.norms, strict=True)
        ]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(4, 4) for _ in range(3))
        self.project = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        parts = self.query(tokens), self.key(tokens), self.value(tokens)
        return self.project(F.scaled_dot_product_attention(*parts))


class Depthwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.expand, self.depthwise = conv_bn(3, 4, 1), conv_bn(4, 4, groups=4)
        self.project, self.act = conv_bn(4, 3, 1), nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(self.act(self.depthwise(self.act(self.expand(x)))))


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.join = conv_bn(3, 2, 1), conv_bn(3, 2), conv_bn(7, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = F.relu(self.left(x)), F.relu(self.right(x)), F.max_pool2d(x, 3, 1, 1)
        return F.relu(self.join(torch.cat(parts, dim=1)))


class Pyramid(nn.Module):
    """The top-down part of an FPN."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = conv_bn(3, 4), nn.Conv2d(4, 4, 3, 2, 1)
        self.lateral, self.top = nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 1)
        self.smooth = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low = F.relu(self.low(x))
        top = self.top(F.relu(self.high(low)))
        up = F.interpolate(top, size=low.shape[2:], mode="nearest")
        return self.smooth(self.lateral(low) + up), top


class PoolLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.fc = conv_bn(3, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.adaptive_avg_pool2d(F.relu(self.body(x)), 1).flatten(1))


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.relu, self.last = conv_bn(3, 3), nn.ReLU(inplace=True), nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        self.relu(y)
        y += x
        y.mul_(0.5)
        return self.last(y)


class Outputs(nn.Module):
    """Outputs in a tree; one of them is computed from the result of a second call."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.scores, self.boxes = conv_bn(3, 4), nn.Conv2d(4, 2, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor | list[Tensor]]:
        y = F.relu(self.body(x))
        return {"maps": [self.scores(y), self.boxes(y)], "best": self.scores(y).amax(1)}


#: name -> (class, channels of the input, options of prepare)
NETS: dict[str, tuple[type[nn.Module], int, dict[str, bool]]] = {
    "conv_bn_relu": (ConvBnRelu, 3, {}),
    "residual": (Residual, 3, {}),
    "shared_head": (SharedHead, 3, {"quantize_output": False}),
    "attention": (Attention, 4, {}),
    "depthwise": (Depthwise, 3, {}),
    "branches": (Branches, 3, {}),
    "pyramid": (Pyramid, 3, {}),
    "pool_linear": (PoolLinear, 3, {"quantize_output": False}),
    "in_place": (InPlace, 3, {}),
    "outputs": (Outputs, 3, {}),
}


def build(name: str) -> tuple[nn.Module, Tensor, dict[str, bool]]:
    """(the net in eval mode, its input, options of prepare)."""
    cls, channels, options = NETS[name]
    model = cls().eval()
    with torch.no_grad():
        for i, (key, tensor) in enumerate(model.state_dict().items()):
            numbers = torch.arange(tensor.numel()).reshape(tensor.shape)
            if key.endswith("running_var"):
                tensor.copy_(4.0 ** (numbers % 2))  # their roots are exact
            elif tensor.is_floating_point():
                tensor.copy_((numbers * 11 + i * 7) % 31 - 15.5).div_(16)
    return model, torch.zeros(1, channels, 8, 8), options


def settled(name: str) -> tuple[Prepared, Tensor]:
    """The prepared net in stage eval, with scales that no calibration computed; and its input."""
    model, x, options = build(name)
    prepared = prepare(model, (x,), qconfig="horizon_qat", **options)
    weights = weight_fake_quants(prepared.model)
    for i, module in enumerate(prepared.model.modules()):
        if isinstance(module, FakeQuantize) and module not in weights and not module.observed:
            module.set_scale(torch.tensor([(3 + i % 5) / 128]))
    set_stage(prepared, "eval")
    return prepared, x
