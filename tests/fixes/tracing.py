"""QS501 to QS505: code that is traced."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from qatspec.diag import Diagnostic
from qatspec.prepare import pipeline
from tests.fixes.following import (
    Case,
    Net,
    Whole,
    each,
    only_prepared,
    proposed,
    through,
)


class Decides(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 2 if x.max() > 1 else x


def decide(x: Tensor) -> Tensor:
    return x / 2 if x.max() > 1 else x


class Calls(Net):
    """The decision in a function of the model's file."""

    def forward(self, x: Tensor) -> Any:
        return self.b(decide(self.a(x)))


def by_key(code: str, model: Any) -> Any:
    """The model with the `prepare` that its diagnostic proposes, converting nothing."""
    return lambda: only_prepared(model(), prepare=proposed(through(model()), code, "prepare"))


def _of_part(step: Any) -> Any:
    class Part(nn.Module):
        forward = staticmethod(step)

    return lambda: Net(lambda m, x: m.part(x), part=Part())


CASES: list[Case] = []
CASES += each(
    "QS501",
    (
        "choose with `torch.where`",
        lambda: through(Net(lambda m, x: x / 2 if x.max() > 1 else x)),
        lambda: through(Net(lambda m, x: torch.where(x.amax((1, 2, 3), True) > 1, x / 2, x))),
    ),
    (
        "take the number from a size",
        lambda: through(Net(lambda m, x: x * int(x.sum()))),
        lambda: through(Net(lambda m, x: x * int(x.shape[2]))),
    ),
    (
        "compute with the tensor itself",
        lambda: through(Net(lambda m, x: x * float(x.mean()))),
        lambda: through(Net(lambda m, x: x * x.mean((1, 2, 3), True))),
    ),
    (
        "`x.unbind(dim)` along another dim",
        lambda: through(Net(lambda m, x: torch.stack([row + 1 for row in x]))),
        lambda: through(Net(lambda m, x: torch.stack([p + 1 for p in x.unbind(2)], 2))),
    ),
    (
        "a spec that converts nothing may keep the module in float, `prepare: ",
        lambda: through(Net(lambda m, x: m.part(x), part=Decides())),
        by_key("QS501", lambda: Net(lambda m, x: m.part(x), part=Decides())),
        ("QS608",),
    ),
    (
        "put it into a function and name that in `prepare: {wrap: [...]}`",
        lambda: through(Net(lambda m, x: x / 2 if x.max() > 1 else x)),
        lambda: only_prepared(Calls(lambda m, x: x), prepare={"wrap": ["decide"]}),
        ("QS608",),
    ),
)
CASES += each(
    "QS502",
    (
        "write the NumPy step with torch functions",
        lambda: through(Net(lambda m, x: x * torch.from_numpy(np.abs(x.detach().numpy())))),
        lambda: through(Net(lambda m, x: x * torch.abs(x))),
    ),
    (
        "a spec that converts nothing may keep the module in float, `prepare: ",
        lambda: through(_of_part(lambda x: torch.from_numpy(np.abs(x.detach().numpy())))()),
        by_key("QS502", _of_part(lambda x: torch.from_numpy(np.abs(x.detach().numpy())))),
        ("QS608",),
    ),
    (
        "use the result instead, without `out`",
        lambda: through(Net(lambda m, x: torch.add(x, x, out=torch.zeros_like(x)))),
        lambda: through(Net(lambda m, x: torch.add(x, x))),
    ),
    (
        "write it without an in-place op",
        lambda: through(
            Net(lambda m, x: torch.cat([x.flatten(1).mul_(2).view_as(x), x], 1)[:, 4:])
        ),
        lambda: through(Net(lambda m, x: torch.cat([(x * 2)[:, :2], (x * 2)[:, 2:]], 1))),
    ),
    (
        "call it on the tensor: `x.add(...)` instead of `torch.Tensor.add(x, ...)`",
        lambda: through(Net(lambda m, x: torch.Tensor.add(x, x))),
        lambda: through(Net(lambda m, x: x.add(x))),
    ),
)


class Keeps(Net):
    """A batch norm whose mode does not follow the model's."""

    def train(self, mode: bool = True) -> nn.Module:
        super().train(mode)
        self.norm.train()
        return self


class Aux(nn.Module):
    """A layer in training that evaluation replaces by another use of the same weights."""

    def __init__(self, same: bool) -> None:
        super().__init__()
        self.a, self.b, self.same = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), same

    def forward(self, x: Tensor) -> Any:
        x = self.a(x)
        return self.b(x) if self.training or self.same else self.b(x + 1)


class Drops(nn.Module):
    """Returns one tensor in both modes."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x) if self.training else torch.relu(x)


def _another_input(m: Any, x: Any) -> Any:
    """The last layer reads another tensor in each mode."""
    y = m.a(x)
    return m.b(y.sigmoid() if m.training else y.tanh())


def _by_batch() -> nn.Module:
    return Net(lambda m, x: m.norm(x), norm=nn.BatchNorm2d(4, track_running_stats=False))


def _of_a_spec(model: nn.Module) -> list[Diagnostic]:
    """What is reported where the example inputs are made up."""
    with mock.patch.object(pipeline, "keep_statistics", return_value=[]):
        return through(model)


CASES += each(
    "QS503",
    (
        "build it with `track_running_stats=True`",
        lambda: _of_a_spec(_by_batch()),
        lambda: _of_a_spec(Net(lambda m, x: m.norm(x), norm=nn.BatchNorm2d(4))),
    ),
    (
        "gets the statistics of example inputs from `qatspec.api.prepare`",
        lambda: _of_a_spec(_by_batch()),
        lambda: through(_by_batch()),
        ("QS615",),
    ),
    (
        "let `train(False)` of the model reach it",
        lambda: through(Keeps(lambda m, x: m.norm(x), norm=nn.BatchNorm2d(4))),
        lambda: through(Net(lambda m, x: m.norm(x), norm=nn.BatchNorm2d(4))),
    ),
    (
        "move what only one mode needs out of the prepared module",
        lambda: through(Aux(False)),
        lambda: through(Aux(True)),
    ),
    (
        "add `boundary: [a]` to `prepare`",
        lambda: through(Whole(_another_input)),
        lambda: through(Whole(_another_input), prepare={"boundary": ["a"]}),
        ("QS517",),
    ),
    (
        "keep it as it is: `prepare: {non_traceable_module_class",
        lambda: through(Net(lambda m, x: m.part(x), part=Drops())),
        lambda: through(
            Net(lambda m, x: m.part(x), part=Drops()),
            prepare={"non_traceable_module_class": [Drops]},
        ),
        ("QS608",),
    ),
)
CASES += each(
    "QS504",
    (
        "compare `model.input`, or `model.inputs`, with what the model takes",
        lambda: through(Net(lambda m, x: x), torch.zeros(2, 5, 8, 8)),
        lambda: through(Net(lambda m, x: x), torch.ones(2, 3, 8, 8)),
    ),
)
CASES += each(
    "QS505",
    (
        "did you mean `a`?",
        lambda: through(Net(lambda m, x: x), modules={"A": {}}),
        lambda: through(Net(lambda m, x: x), modules={"a": {}}),
    ),
    (
        "name it in `prepare: {standalone_module_name: [...]}`",
        lambda: through(nn.Sequential(Net(lambda m, x: x)), modules={"0": {}, "0.a": {}}),
        lambda: through(
            nn.Sequential(Net(lambda m, x: x)),
            modules={"0": {"prepare": {"standalone_module_name": ["a"]}}},
        ),
    ),
    (
        "prepare only modules that the model's forward calls",
        lambda: through(Net(lambda m, x: x, c=nn.Conv2d(3, 3, 1)), modules={"a": {}, "c": {}}),
        lambda: through(Net(lambda m, x: x, c=nn.Conv2d(3, 3, 1)), modules={"a": {}}),
    ),
    (
        "as the model's file has it",
        lambda: through(Calls(lambda m, x: x), prepare={"wrap": ["decides"]}),
        lambda: only_prepared(Calls(lambda m, x: x), prepare={"wrap": ["decide"]}),
        ("QS608",),
    ),
)
