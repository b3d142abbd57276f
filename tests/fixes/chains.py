"""A net around one op, and what the help texts about it propose, as changes of that net."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.diag import Diagnostic
from tests.fixes.following import only_prepared, through

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Function(nn.Module):
    """A function as a module's code."""

    def __init__(self, compute: Callable[..., Any], *parts: nn.Module) -> None:
        super().__init__()
        self.compute, self.parts = compute, nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Any:
        return self.compute(x, *self.parts)


class Around(nn.Module):
    """before -> op -> behind, or `before` alone: then `predict` calls the rest."""

    def __init__(self, op: nn.Module, *, whole: bool) -> None:
        super().__init__()
        self.before, self.op, self.whole = nn.Conv2d(3, 4, 1), op, whole
        self.behind = nn.Identity()

    def forward(self, x: Tensor) -> Any:
        x = self.before(x)
        return self.behind(self.op(x) * 0.5) if self.whole else x


def f(compute: Callable[..., Any], *parts: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """How to build a module of a function and its parts."""
    return lambda: Function(compute, *(part() for part in parts))


OPS: dict[str, Callable[[], nn.Module]] = {
    "gru": f(lambda x, m: m(x.mean(1))[0], lambda: nn.GRU(8, 8, batch_first=True)),
    "lstm": f(lambda x, m: m(x.mean(1))[0], lambda: nn.LSTM(8, 8, batch_first=True)),
    "decision": f(lambda x: x / 2 if x.max() > 1 else x),
    "number": f(lambda x: x * float(x.mean())),
    "array": f(lambda x: torch.from_numpy(x.detach().numpy() * 2)),
    "logcumsumexp": f(lambda x: torch.logcumsumexp(x, 1)),
    "cumprod": f(lambda x: torch.cumprod(x, 1)),
    "sort": f(lambda x: torch.sort(x, 1)[0]),
    "topk": f(lambda x: torch.topk(x, 2, 1)[0]),
    "fft": f(lambda x: torch.fft.fft2(x).real),
    "det": f(lambda x: torch.linalg.det(x)),
    "cdist": f(lambda x: torch.cdist(x.flatten(2), x.flatten(2))),
    "median": f(lambda x: x.median(1)[0]),
    "kthvalue": f(lambda x: x.kthvalue(2, 1)[0]),
    "grid sample": f(lambda x: F.grid_sample(x, x.movedim(1, 3)[..., :2], align_corners=False)),
    "max over everything": f(lambda x: x / (x.max() + 1)),
    "softmax": f(lambda x: torch.softmax(x, 1)),
    "matmul": f(lambda x: x @ x.transpose(2, 3)),
    "layer norm": f(lambda x, m: m(x), lambda: nn.LayerNorm(8)),
    "group norm": f(lambda x, m: m(x), lambda: nn.GroupNorm(2, 4)),
    "argmax": f(lambda x: x.argmax(1).float()),
    "embedding": f(lambda x, m: m(x.argmax(1)), lambda: nn.Embedding(4, 3)),
    "uneven pool": f(lambda x: F.adaptive_avg_pool2d(x, 3)),
    "uneven max pool": f(lambda x: F.adaptive_max_pool2d(x, 3)),
    "bicubic": f(lambda x: F.interpolate(x, scale_factor=2, mode="bicubic")),
    "bicubic to a size": f(lambda x: F.interpolate(x, (13, 11), mode="bicubic")),
    "aligned": f(lambda x: F.interpolate(x, (13, 9), mode="bilinear", align_corners=True)),
    "antialias": f(lambda x: F.interpolate(x, (4, 4), mode="bilinear", antialias=True)),
    "area": f(lambda x: F.interpolate(x, (5, 3), mode="area")),
    "up in 3 dims": f(
        lambda x: F.interpolate(x.unsqueeze(2), (2, 9, 9), mode="trilinear").flatten(1, 2)
    ),
    "sum with a vector": f(lambda x: x[..., :6, :5] + x[..., 1:2, 2:3]),
    "by three": f(lambda x: F.interpolate(x, scale_factor=3)),
    "pool of the picture": f(lambda x: F.avg_pool2d(x, x.shape[2:])),
    "quotient": f(lambda x: x / (x.abs() + 1)),
    "remainder": f(lambda x: torch.remainder(x, 0.5)),
    "batch": f(lambda x: x[:1]),
    "conv of 15": f(lambda x, m: m(x), lambda: nn.Conv2d(4, 4, 15, padding=7)),
    "dilation of 3": f(lambda x, m: m(x), lambda: nn.Conv2d(4, 4, 3, padding=3, dilation=3)),
    "dilation and stride": f(
        lambda x, m: m(x), lambda: nn.Conv2d(4, 4, 3, padding=2, dilation=2, stride=2)
    ),
    "stride of 3 up": f(lambda x, m: m(x), lambda: nn.ConvTranspose2d(4, 4, 3, 3)),
    "conv in 3 dims": f(lambda x, m: m(x.unsqueeze(2)), lambda: nn.Conv3d(4, 4, (1, 3, 3))),
    "wide": f(lambda x, m: m(x.flatten(1)), lambda: nn.Linear(256, 5000)),
}  # fmt: skip
#: Positions between the pixels of pictures of 8 x 8.
GRID = torch.rand(1, 8, 8, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1
#: Ops that the help about others proposes.
PROPOSED: dict[str, Callable[[], nn.Module]] = {
    "by two": f(lambda x: F.interpolate(x, scale_factor=2, mode="bilinear")),
    "pooled": f(lambda x: F.avg_pool2d(x, 2)),
    "grid in a buffer": f(
        lambda x: F.grid_sample(x, GRID.expand(x.shape[0], -1, -1, -1), align_corners=False)
    ),
    "conv of 7": f(lambda x, m: m(x), lambda: nn.Conv2d(4, 4, 7, padding=3)),
    "dilation of 2": f(lambda x, m: m(x), lambda: nn.Conv2d(4, 4, 3, padding=2, dilation=2)),
    "stride of 2 up": f(lambda x, m: m(x), lambda: nn.ConvTranspose2d(4, 4, 2, 2)),
    "narrow": f(lambda x, m: m(x.flatten(1)), lambda: nn.Linear(256, 4000)),
    "every second place": f(
        lambda x, m: m(x)[:, :, ::2, ::2], lambda: nn.Conv2d(4, 4, 3, padding=2, dilation=2)
    ),
    "mean": f(lambda x: x.mean((2, 3), keepdim=True)),
    "sum of one size": f(
        lambda x: x[..., :6, :5] + F.interpolate(x[..., 1:2, 2:3], scale_factor=8)[..., :6, :5]
    ),
}
#: words of the help about a limit -> the op that it proposes.
WITHIN = {
    "make its kernel at most": "conv of 7",
    "make its dilation a power of two": "dilation of 2",
    "make its stride one of 2, 4": "stride of 2 up",
    "make its channels out at most": "narrow",
    "take every second place": "every second place",
}


@dataclass(frozen=True)
class State:
    """A net and how it is prepared. dtype: of activations. output: quantize_output. follows: the
    words of the help that led here."""

    op: str
    march: str
    preset: str | None = None
    dtype: str = "qint8"
    output: bool = True
    whole: bool = True
    alone: bool = False
    converts: bool = True
    kept: str | None = None
    follows: str = ""

    def reported(self) -> list[Diagnostic]:
        """What qatspec reports of it."""
        net = Around((OPS | PROPOSED)[self.op](), whole=self.whole)
        settings: dict[str, Any] = {"prepare": self.preset, "quantize_output": self.output}
        settings["qconfig"] = {"": {"activation": {"dtype": self.dtype}, "weight": {}}}
        if self.kept:
            settings["prepare"] = {"non_traceable_module_class": [self.kept]}
        if self.alone:
            settings["modules"] = {"before": {}}
        if self.converts:
            return through(net, X, self.march, **settings)
        return only_prepared(net, X, **settings)


def proposals(state: State, found: Diagnostic) -> Iterator[State]:
    """The states that a help text proposes, of those changes that need no thought."""
    text = found.help or ""
    dtype = "qint8" if "fewer bits" in text else state.dtype
    if "under `quantize: modules`" in text or "(`quantize: modules`)" in text:
        yield replace(state, alone=True, follows="quantize: modules")
    if "behind the outputs" in text or "into `predict`" in text:
        yield replace(state, whole=False, follows="predict")
    if "enlarge by a power of two" in text:
        yield replace(state, op="by two", dtype=dtype, follows="enlarge by a power of two")
        yield replace(state, op="pooled", dtype=dtype, follows="a pool")
    if "same size: `F.interpolate`" in text:
        yield replace(state, op="sum of one size", dtype=dtype, follows="the same size")
    if "sample at constant positions" in text:
        yield replace(state, op="grid in a buffer", dtype="qint8", follows="constant positions")
    for words, op in WITHIN.items():
        if words in text:
            yield replace(state, op=op, dtype=dtype, follows=words)
    if "take the mean over the dims" in text:
        yield replace(state, op="mean", dtype=dtype, follows="the mean")
    if "choose another march" in text:
        yield replace(state, march="onnxruntime", preset=None, follows="another march")
    if "quantize_output: true" in text or "or quantize the output" in text:
        yield replace(state, output=True, follows="quantize_output: true")
    if "fewer bits" in text and ", and " not in text:
        yield replace(state, dtype="qint8", follows="fewer bits")
    if kept := re.search(r"converts nothing may .*non_traceable_module_class: \[(.+?)\]", text):
        yield replace(state, converts=False, kept=kept[1], follows="non_traceable_module_class")
