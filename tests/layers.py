"""What `lower` and both ONNX forms are tried on: the example of every op, and `LAYERS`.

`LAYERS` has what examples lack: further spellings and settings, ops together, other ranks. It maps
a name to a layer on tensors of `SHAPES[rank]`; ranks are counted with the batch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.registry import registry
from qatspec.testing.nets import all_examples

SHAPES = {2: (2, 12), 3: (2, 6, 11), 4: (2, 4, 9, 12), 5: (2, 4, 5, 6, 7)}


class Op(nn.Module):
    """A function of one tensor and of the modules and parameters it is given."""

    def __init__(self, function: Callable[..., Tensor], *parts: nn.Module | Tensor) -> None:
        super().__init__()
        self.function = function
        self.kinds = tuple(isinstance(part, nn.Module) for part in parts)
        self.parts = nn.ModuleList([p for p in parts if isinstance(p, nn.Module)])
        self.weights = nn.ParameterList([p for p in parts if not isinstance(p, nn.Module)])

    def forward(self, x: Tensor) -> Tensor:
        parts, weights = iter(self.parts), iter(self.weights)
        return self.function(x, *(next(parts) if kind else next(weights) for kind in self.kinds))


def _normed(norm: nn.Module) -> nn.Module:
    nn.init.uniform_(norm.running_mean, -0.5, 0.5)
    nn.init.uniform_(norm.running_var, 0.5, 2.0)
    nn.init.uniform_(norm.weight, -1.5, 1.5)
    nn.init.uniform_(norm.bias, -0.5, 0.5)
    return norm


def _scaled(norm: nn.Module) -> nn.Module:
    """Slopes of either sign, one of them 0, and shifts."""
    for name, parameter in norm.named_parameters():
        nn.init.uniform_(parameter, -1.5, 1.5)
        if name == "weight":
            nn.init.zeros_(parameter.view(-1)[:1])
    return norm


def _views_in_place(x: Tensor) -> Tensor:
    y = x * 0.5
    y.unsqueeze_(1)
    y.swapaxes_(1, 2)
    return y[:, :, 0] - x


def _learned_means(x: Tensor, p: Tensor) -> Tensor:
    power = p.abs() + 2.0
    return F.avg_pool2d(x.clamp(min=1e-3).pow(power), (9, 12)).pow(1.0 / power)


def _tensor(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3)) * 0.4 + 0.3


#: name -> (rank of the input, layer).
LAYERS: dict[str, tuple[int, Callable[[], nn.Module]]] = {
    # convolutions
    "conv1d": (3, lambda: nn.Conv1d(6, 4, 3, 2, 1, 2, 2)),
    "conv1d reflect": (3, lambda: nn.Conv1d(6, 4, 3, padding=2, padding_mode="reflect")),
    "conv2d same": (4, lambda: nn.Conv2d(4, 4, 4, padding="same")),
    "conv2d reflect": (4, lambda: nn.Conv2d(4, 4, 3, padding=(2, 1), padding_mode="reflect")),
    "conv2d replicate": (4, lambda: nn.Conv2d(4, 4, 5, padding=2, padding_mode="replicate")),
    "conv2d circular": (4, lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")),
    "conv3d": (5, lambda: nn.Conv3d(4, 6, 3, (2, 1, 2), (1, 0, 2), (1, 2, 1))),
    "conv3d groups": (5, lambda: nn.Conv3d(4, 8, (2, 1, 3), groups=2)),
    "conv3d depthwise bn relu": (
        5, lambda: nn.Sequential(nn.Conv3d(4, 4, 3, padding=1, groups=4, bias=False),
                                 _normed(nn.BatchNorm3d(4)), nn.ReLU()),
    ),
    "deconv1d": (3, lambda: nn.ConvTranspose1d(6, 4, 3, 2, 1, 1, groups=2)),
    "deconv2d": (4, lambda: nn.ConvTranspose2d(4, 4, 3, 2, 1, 1, groups=2)),
    "deconv2d dilated": (4, lambda: nn.ConvTranspose2d(4, 8, 3, 1, 2, dilation=2, groups=4)),
    "deconv3d": (5, lambda: nn.ConvTranspose3d(4, 6, 3, 2, 1, 1, groups=2)),
    "deconv3d sparse": (5, lambda: nn.ConvTranspose3d(4, 2, (1, 2, 3), (3, 2, 1), dilation=2)),
    "conv bn relu": (
        4, lambda: nn.Sequential(nn.Conv2d(4, 4, 3), _normed(nn.BatchNorm2d(4)), nn.ReLU())
    ),
    "conv bn relu6": (
        4, lambda: nn.Sequential(nn.Conv2d(4, 4, 1), _normed(nn.BatchNorm2d(4)), nn.ReLU6())
    ),
    "functional conv": (
        4, lambda: Op(lambda x, w, b: F.conv2d(x, w, b, 2, 1), _tensor(5, 4, 3, 3), _tensor(5))
    ),
    "functional linear": (3, lambda: Op(lambda x, w: F.linear(x, w), _tensor(5, 11))),
    "functional deconv": (
        3, lambda: Op(lambda x, w: F.conv_transpose1d(x, w, stride=2), _tensor(6, 2, 3))
    ),
    "functional batch norm": (
        4, lambda: Op(lambda x, m, v: F.batch_norm(x, m, v.abs() + 0.5), _tensor(4), _tensor(4))
    ),
    "residual": (4, lambda: Op(lambda x, c: c(x) + x, nn.Conv2d(4, 4, 3, padding=1))),
    "linear": (2, lambda: nn.Linear(12, 5)),
    "linear 3-d": (3, lambda: nn.Linear(11, 5)),
    "linear 4-d": (4, lambda: nn.Linear(12, 5, bias=False)),
    "batch norm 1-d": (3, lambda: _normed(nn.BatchNorm1d(6))),
    "batch norm flat": (2, lambda: _normed(nn.BatchNorm1d(12))),
    # arithmetic
    "add": (4, lambda: Op(lambda x: x + F.max_pool2d(x, 3, 1, 1))),
    "add broadcast": (4, lambda: Op(lambda x: x + x.mean((2, 3), keepdim=True))),
    "add column": (4, lambda: Op(lambda x: x + x.mean(3, keepdim=True))),
    "add fewer dims": (4, lambda: Op(lambda x: x[:, :, :4, :4] + x[:, 0:1, :4, :4])),
    "sub scaled": (4, lambda: Op(lambda x: torch.sub(x, F.max_pool2d(x, 3, 1, 1), alpha=0.5))),
    "mul": (4, lambda: Op(lambda x: x * F.max_pool2d(x, 3, 1, 1))),
    "mul gate": (4, lambda: Op(lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)))),
    "mul constant": (4, lambda: Op(lambda x: x * -0.3)),
    "mul by zero": (4, lambda: Op(lambda x: x * 0.0)),
    "mul channels": (4, lambda: Op(lambda x, w: x * w, _tensor(4, 1, 1))),
    "mul map": (4, lambda: Op(lambda x, w: w * x, _tensor(1, 1, 9, 12))),
    "mul scalar": (4, lambda: Op(lambda x, w: x * w, _tensor(1))),
    "div channels": (4, lambda: Op(lambda x, w: x / w, 0.5 + _tensor(4, 1, 1).abs())),
    "add constant": (4, lambda: Op(lambda x: x + 1.5)),
    "add channels": (4, lambda: Op(lambda x, w: x + w, _tensor(1, 4, 1, 1))),
    "add what forward makes": (4, lambda: Op(lambda x: x + torch.full((1, 4, 1, 1), 0.5))),
    "mul by what forward makes": (
        4, lambda: Op(lambda x: x * torch.arange(1.0, 13.0) + torch.tensor([0.5]).view(1, 1))
    ),
    "add map": (4, lambda: Op(lambda x, w: x + w, _tensor(1, 4, 9, 12))),
    "sub from map": (4, lambda: Op(lambda x, w: w - x, _tensor(9, 12))),
    "reflected sub": (4, lambda: Op(lambda x: 1.0 - x)),
    "weighted sum": (
        4,
        lambda: Op(
            lambda x, w: (lambda v: x * v[0] + F.max_pool2d(x, 3, 1, 1) * v[1])(
                F.relu(w) / (F.relu(w).sum() + 1e-4)
            ),
            torch.tensor([0.7, 0.4]),
        ),
    ),
    "cat constant": (3, lambda: Op(lambda x, w: torch.cat([w.expand(x.shape[0], -1, -1), x], 1),
                                   _tensor(1, 1, 11))),
    "settings by name": (
        4,
        lambda: Op(
            lambda x: torch.div(torch.pow(x, exponent=2), other=3.0).transpose(dim0=1, dim1=2)
        ),
    ),
    "sqrt": (4, lambda: Op(lambda x: torch.sqrt(F.relu(x)))),
    "maximum": (4, lambda: Op(lambda x: torch.maximum(x, -0.5 * x))),
    "minimum": (4, lambda: Op(lambda x: torch.minimum(x, 0.5 * F.relu(x)))),
    "cat last": (4, lambda: Op(lambda x: torch.cat([x, x * x], -1))),
    "positions": (4, lambda: Op(lambda x: x[:, [2, 0, 1, 1, -1]])),
    "positions of columns": (4, lambda: Op(lambda x: x[..., [5, 0, 1, 2]])),
    "positions in a tensor": (4, lambda: Op(lambda x: x[:, torch.tensor([3, 0, 0])])),
    # pools and reductions
    "max_pool1d": (3, lambda: nn.MaxPool1d(3, 2, 1, ceil_mode=True)),
    "max_pool2d": (4, lambda: nn.MaxPool2d(3, 2, 1, 2)),
    "max_pool2d ceil": (4, lambda: nn.MaxPool2d(2, ceil_mode=True)),
    "max_pool3d": (5, lambda: nn.MaxPool3d(3, 2, 1, ceil_mode=True)),
    "avg_pool2d": (4, lambda: nn.AvgPool2d(3, 2, 1)),
    "avg_pool2d border": (4, lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False)),
    "avg_pool2d ceil": (4, lambda: nn.AvgPool2d((2, 5), ceil_mode=True)),
    "avg_pool2d ceil border": (
        4, lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False)
    ),
    "avg_pool2d divisor": (4, lambda: nn.AvgPool2d(2, ceil_mode=True, divisor_override=3)),
    "avg_pool3d": (5, lambda: nn.AvgPool3d(3, 2, 1)),
    "avg_pool3d border": (5, lambda: nn.AvgPool3d((2, 3, 2), 2, 1, count_include_pad=False)),
    "adaptive_avg_pool1d": (3, lambda: nn.AdaptiveAvgPool1d(4)),
    "adaptive_avg_pool2d": (4, lambda: nn.AdaptiveAvgPool2d((3, 4))),
    "adaptive_avg_pool2d global": (4, lambda: nn.AdaptiveAvgPool2d(1)),
    "adaptive_avg_pool2d uneven": (4, lambda: nn.AdaptiveAvgPool2d((4, 5))),
    "adaptive_avg_pool2d up": (4, lambda: nn.AdaptiveAvgPool2d((16, None))),
    "adaptive_avg_pool3d": (5, lambda: nn.AdaptiveAvgPool3d((5, 3, 1))),
    "adaptive_max_pool1d": (3, lambda: nn.AdaptiveMaxPool1d(3)),
    "adaptive_max_pool2d": (4, lambda: nn.AdaptiveMaxPool2d((3, 4))),
    "adaptive_max_pool2d uneven": (4, lambda: nn.AdaptiveMaxPool2d((4, 5))),
    "adaptive_max_pool3d": (5, lambda: nn.AdaptiveMaxPool3d((2, 4, 3))),
    "pool of a size in the shape": (4, lambda: Op(lambda x: F.avg_pool2d(x, x.shape[-2:]))),
    "mean": (4, lambda: Op(lambda x: x.mean(2))),
    "mean of channels": (4, lambda: Op(lambda x: x.mean((1, 3), keepdim=True))),
    "amax": (4, lambda: Op(lambda x: torch.amax(x, (2, 3)))),
    "amin": (4, lambda: Op(lambda x: torch.amin(x, (2, 3), keepdim=True))),
    "amin of channels": (5, lambda: Op(lambda x: x.amin(dim=1))),
    "min along a dim": (4, lambda: Op(lambda x: x - x.min(-1, keepdim=True).values)),
    "aminmax": (3, lambda: Op(lambda x: torch.sub(*torch.aminmax(x, dim=2)[::-1]))),
    "argmin": (3, lambda: Op(lambda x: x * (torch.argmin(x, dim=1, keepdim=True) * 0.1))),
    # in place
    "views in place": (
        4, lambda: Op(lambda x: x.mul(0.5).unsqueeze_(1).transpose_(1, 2).squeeze_(2) + x)
    ),
    "view in place of what is read again": (3, lambda: Op(_views_in_place)),
    # resizing
    "nearest": (4, lambda: Op(lambda x: F.interpolate(x, size=(7, 30)))),
    "nearest 1-d": (3, lambda: nn.Upsample(scale_factor=2)),
    "nearest 3-d": (5, lambda: nn.Upsample(scale_factor=2)),
    "bilinear": (4, lambda: Op(lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"))),
    "aligned": (
        4, lambda: Op(lambda x: F.interpolate(x, size=(20, 7), mode="bilinear",
                                              align_corners=True)),
    ),
    "linear resize": (3, lambda: Op(lambda x: F.interpolate(x, scale_factor=2, mode="linear"))),
    "bicubic": (4, lambda: nn.Upsample(scale_factor=2, mode="bicubic")),
    "bicubic, aligned": (
        4, lambda: Op(lambda x: F.interpolate(x, (20, 7), mode="bicubic", align_corners=True)),
    ),
    "bicubic, antialias": (
        4, lambda: Op(lambda x: F.interpolate(x, (4, 20), mode="bicubic", antialias=True)),
    ),
    "bilinear, antialias": (
        4, lambda: Op(lambda x: F.interpolate(x, (4, 5), mode="bilinear", antialias=True)),
    ),
    "bilinear, odd factor": (
        4, lambda: Op(lambda x: F.interpolate(x, scale_factor=(1.3, 0.7), mode="bilinear")),
    ),
    "trilinear": (5, lambda: nn.Upsample(scale_factor=2, mode="trilinear")),
    "area": (4, lambda: Op(lambda x: F.interpolate(x, (5, 7), mode="area"))),
    "resize to the same size": (4, lambda: Op(lambda x: F.interpolate(x, x.shape[2:],
                                                                     mode="bicubic"))),
    "channel shuffle by hand": (
        4, lambda: Op(lambda x: x.view(x.shape[0], 2, 2, 9, 12).transpose(1, 2).flatten(1, 2))
    ),
    # functions of one number
    "hard sigmoid by hand": (4, lambda: Op(lambda x: x * (F.relu6(x + 3.0) / 6.0))),
    "relu": (4, lambda: nn.ReLU()),
    "clamp": (4, lambda: Op(lambda x: x.clamp(max=0.6))),
    "gelu tanh": (4, lambda: nn.GELU("tanh")),
    "leaky": (4, lambda: nn.LeakyReLU(0.1)),
    "softplus": (4, lambda: nn.Softplus()),
    "prelu": (4, lambda: nn.PReLU(4)),
    "prelu 1-d": (3, lambda: nn.PReLU()),
    "learned exponent": (4, lambda: Op(lambda x, p: x.clamp(min=0.1).pow(p + 2.0), _tensor(1))),
    "pool of learned means": (4, lambda: Op(_learned_means, _tensor(1))),
    # running sums
    "cumsum last": (3, lambda: Op(lambda x: x.cumsum(-1))),
    "cumsum of rows": (2, lambda: Op(lambda x: torch.cumsum(x, dim=1))),
    "cumsum by keyword": (5, lambda: Op(lambda x: torch.cumsum(input=x, dim=-3))),
    "cumsum of cumsum": (4, lambda: Op(lambda x: x.cumsum(2).cumsum(3))),
    "cumsum behind a permute": (
        3, lambda: Op(lambda x: x.permute(1, 0, 2).cumsum(0).transpose(0, 1))
    ),
    # over what the input itself holds
    "softmax last": (3, lambda: Op(lambda x: F.softmax(x * 4.0, -1))),
    "softmax flat": (2, lambda: Op(lambda x: x.softmax(dim=1))),
    "log softmax last": (2, lambda: Op(lambda x: F.log_softmax(4.0 * x, dim=-1))),
    "layer norm": (4, lambda: _scaled(nn.LayerNorm(12))),
    "layer norm plain": (3, lambda: Op(lambda x: F.layer_norm(x, (11,), eps=0.1))),
    "layer norm dims": (4, lambda: _scaled(nn.LayerNorm((9, 12)))),
    "layer norm flat": (2, lambda: _scaled(nn.LayerNorm(12))),
    "layer norm without bias": (2, lambda: _scaled(nn.LayerNorm(12, bias=False))),
    "layer norm function": (
        2, lambda: Op(lambda x, w, b: torch.layer_norm(x, (12,), w, b), _tensor(12), _tensor(12))
    ),
    "layer norm channels last": (
        4, lambda: Op(lambda x, n: n(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
                      _scaled(nn.LayerNorm(4)))
    ),
    "group norm": (4, lambda: _scaled(nn.GroupNorm(2, 4))),
    "group norm of one": (3, lambda: _scaled(nn.GroupNorm(1, 6))),
    "group norm plain": (5, lambda: Op(lambda x: F.group_norm(x, 4, eps=1e-3))),
    "instance norm": (4, lambda: nn.InstanceNorm2d(4)),
    "instance norm 1-d": (3, lambda: _scaled(nn.InstanceNorm1d(6, affine=True))),
    "instance norm 3-d": (5, lambda: _scaled(nn.InstanceNorm3d(4, affine=True))),
    "instance norm function": (4, lambda: Op(lambda x: F.instance_norm(x, eps=0.01))),
    "instance norm in torch's order": (
        4, lambda: Op(lambda x, w, b: torch.instance_norm(x, w, b, None, None, True, 0, 0.1, False),
                      _tensor(4), _tensor(4))
    ),
    "instance norm by what it is given": (
        4, lambda: Op(lambda x, m, v: F.instance_norm(x, m, v.abs() + 0.5, use_input_stats=False),
                      _tensor(4), _tensor(4))
    ),
    "instance norm that remembers": (
        4, lambda: _normed(nn.InstanceNorm2d(4, affine=True, track_running_stats=True))
    ),
    "matmul of its own transpose": (3, lambda: Op(lambda x: x @ x.mT)),
    "matmul broadcast": (4, lambda: Op(lambda x: torch.matmul(x[:, :1].transpose(2, 3), x))),
    "bmm": (3, lambda: Op(lambda x: torch.bmm(x, x.relu().transpose(1, 2)))),
    "matmul constant": (3, lambda: Op(lambda x, w: x @ w, _tensor(11, 5))),
    "attention": (
        3, lambda: Op(lambda x: torch.softmax(x @ x.transpose(1, 2) / 3.3, -1) @ x)
    ),
    "attention in one call": (4, lambda: Op(lambda x: F.scaled_dot_product_attention(x, x, x))),
    "attention with a bias": (
        4, lambda: Op(lambda x, b: F.scaled_dot_product_attention(x, x, x.relu(), b, scale=0.4),
                      _tensor(4, 9, 9))
    ),
    "div by a tensor": (4, lambda: Op(lambda x: x / (x.abs() + 0.5))),
    "div by a column": (4, lambda: Op(lambda x: x / x.abs().sum(1, keepdim=True))),
    "reciprocal": (4, lambda: Op(lambda x: 0.7 / (x.abs() + 0.5))),
    "max of a dim": (4, lambda: Op(lambda x: torch.max(x, dim=1, keepdim=True)[0])),
    "max of a dim, named": (4, lambda: Op(lambda x: x.max(dim=2).values)),
    "place of a max": (4, lambda: Op(lambda x: x.relu().max(3, keepdim=True)[1])),
    # moves
    "pad": (4, lambda: Op(lambda x: F.pad(x, (1, 2, 0, 3), value=0.4))),
    "pad zero": (4, lambda: nn.ZeroPad2d((1, 0, 2, 1))),
    "pad crop": (4, lambda: Op(lambda x: F.pad(x, (-1, 2, 1, -3)))),
    "pad channels": (4, lambda: Op(lambda x: F.pad(x, (0, 0, 0, 0, 1, 2)))),
    "pad row": (3, lambda: Op(lambda x: F.pad(x, (2, 1), value=-0.3))),
    "pad cube": (5, lambda: Op(lambda x: F.pad(x, (1, 0, 0, 2, 1, 1)))),
    "pad reflect": (4, lambda: nn.ReflectionPad2d((2, 1, 3, 0))),
    "pad replicate": (4, lambda: nn.ReplicationPad2d(2)),
    "pad circular": (4, lambda: Op(lambda x: F.pad(x, (2, 1, 1, 2), mode="circular"))),
    "moves": (
        4,
        lambda: Op(lambda x: x.permute(0, 2, 3, 1)[:, 1::2, ..., :2].unsqueeze(1).flatten(2)),
    ),
    "pick": (4, lambda: Op(lambda x: x[:, 1, :, -2].squeeze(0))),
    "split": (4, lambda: Op(lambda x: torch.cat(x.split([1, 3], 1)[::-1], 1))),
    "chunk": (4, lambda: Op(lambda x: torch.cat(x.chunk(3, 2)[::-1], 1 + 1))),
    "unbind": (4, lambda: Op(lambda x: torch.stack(x.unbind(1), 1))),
    "expand": (4, lambda: Op(lambda x: x[:, :1].expand(-1, 4, -1, -1) + x)),
}  # fmt: skip


#: name -> example, of the ops that have integers.
EXAMPLES = {
    f"example of {e.op}": e
    for e in all_examples()
    if registry().handler_for(e.op).lower is not None
}


def layer(name: str) -> nn.Module:
    """A net of the one layer or example, in eval mode, seeded."""
    torch.manual_seed(0)
    build = EXAMPLES[name].build if name in EXAMPLES else LAYERS[name][1]
    return nn.Sequential(build()).eval()


def images(name: str) -> Tensor:
    """Its input, seeded."""
    shape = EXAMPLES[name].shape if name in EXAMPLES else SHAPES[LAYERS[name][0]]
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 1.3
