"""QS506 to QS518: model objects, and what forward may do."""

from __future__ import annotations

import threading
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.diag import Diagnostic
from qatspec.prepare import prepare, set_stage
from tests.fixes.following import (
    Case,
    Net,
    Whole,
    X,
    calibrated,
    each,
    through,
    told,
)

CASES: list[Case] = []


def _returned(both: bool) -> Any:
    def step(m: Any, x: Tensor) -> Any:
        y, z = m.a(x), m.a(x) * 2
        return (y, z) if both else y

    return Whole(step)


CASES += each(
    "QS506",
    (
        "return it, or remove it",
        lambda: through(_drop_b(_returned(False))),
        lambda: through(_drop_b(_returned(True))),
    ),
    (
        "call it in forward, or remove it",
        lambda: through(Whole(lambda m, x: m.a(x))),
        lambda: through(_drop_b(Whole(lambda m, x: m.a(x)))),
    ),
)


def _drop_b(model: nn.Module) -> nn.Module:
    del model.b
    return model


def _replaced() -> nn.Module:
    net = Net(lambda m, x: x)
    net.forward = lambda x: x  # type: ignore[method-assign]
    return net


class Renamed(Net):
    def forward(self, x: Tensor) -> Any:
        return self.b(self.a(x))


def _class_derived() -> nn.Module:
    net = _replaced()
    net.__class__ = Renamed
    del net.forward
    return net


def _hooked(remove: bool) -> nn.Module:
    net = Net(lambda m, x: x)
    handle = net.a.register_forward_hook(lambda *_: None)
    if remove:
        handle.remove()
    return net


def _compiled() -> nn.Module:
    net = Net(lambda m, x: x)
    net.compile()
    return net


def _uncompiled() -> nn.Module:
    net = _compiled()
    net._compiled_call_impl = None
    return net


CASES += each(
    "QS507",
    (
        "with the new `forward`, set it as the module's `__class__`",
        lambda: through(_replaced()),
        lambda: through(_class_derived()),
    ),
    (
        "pass the module inside it, `model.module`",
        lambda: through(nn.DataParallel(Net(lambda m, x: x))),
        lambda: through(nn.DataParallel(Net(lambda m, x: x)).module),
    ),
    ("_compiled_call_impl = None`", lambda: through(_compiled()), lambda: through(_uncompiled())),
    (
        "call the model once on an example",
        lambda: through(nn.Sequential(nn.LazyConv2d(4, 1))),
        lambda: through(_called(nn.Sequential(nn.LazyConv2d(4, 1)))),
    ),
)


def _called(model: nn.Module) -> nn.Module:
    model(X)
    return model


CASES += each(
    "QS508",
    (
        "remove a hook that only watches (`handle.remove()`) before `prepare`",
        lambda: through(_hooked(False)),
        lambda: through(_hooked(True)),
    ),
)
CASES += each(
    "QS509",
    (
        "call `model.float()` before `prepare`",
        lambda: through(Net(lambda m, x: x).half()),
        lambda: through(Net(lambda m, x: x).half().float()),
    ),
    (
        "remove the cast",
        lambda: through(Net(lambda m, x: (x.double() * 2).float())),
        lambda: through(Net(lambda m, x: x * 2)),
    ),
)
CASES += each(
    "QS510",
    (
        "`F.dropout(x, p, training=self.training)`",
        lambda: through(Net(lambda m, x: F.dropout(x, 0.2))),
        lambda: through(Net(lambda m, x: F.dropout(x, 0.2, training=m.training))),
    ),
    (
        "use torch.nn.Dropout",
        lambda: through(Net(lambda m, x: F.dropout(x, 0.2))),
        lambda: through(Net(lambda m, x: m.drop(x), drop=nn.Dropout(0.2))),
    ),
)


class Locks(Net):
    def __init__(self) -> None:
        super().__init__(lambda m, x: x)
        self.lock = threading.Lock()


class LocksInside(Net):
    def forward(self, x: Tensor) -> Any:
        with threading.Lock():
            return super().forward(x)


def _computed(detach: bool) -> nn.Module:
    net = Net(lambda m, x: x + m.shift)
    shift = net.a.weight.mean() * 2
    net.shift = shift.detach() if detach else shift
    return net


CASES += each(
    "QS511",
    (
        "create the object where it is used",
        lambda: through(Locks()),
        lambda: through(LocksInside(lambda m, x: x)),
    ),
    (
        "`prepare(..., inplace=True)`",
        lambda: through(Locks()),
        lambda: through(Locks(), inplace=True),
    ),
    (
        "store `tensor.detach()`",
        lambda: through(_computed(False)),
        lambda: through(_computed(True)),
    ),
)
CASES += each(
    "QS512",
    (
        "write the step for all images at once",
        lambda: through(
            Net(
                lambda m, x: torch.cat([m.a2(x[i : i + 1]) for i in range(x.shape[0])]),
                a2=nn.Conv2d(4, 4, 1),
            )
        ),
        lambda: through(Net(lambda m, x: m.a2(x), a2=nn.Conv2d(4, 4, 1))),
    ),
    (
        "`x.shape[1:].numel()` for `x.numel()`",
        lambda: through(Net(lambda m, x: x / x.numel())),
        lambda: through(Net(lambda m, x: x / x.shape[1:].numel())),
    ),
)


def _at_size(step: Any, size: int, prepared_at: int = 16) -> list[Diagnostic]:
    def act() -> Any:
        example = torch.zeros(2, 3, prepared_at, 16)
        prepared = calibrated(Net(step), example)
        set_stage(prepared, "eval")
        prepared.model(torch.zeros(2, 3, size, 16))

    return told(act)


def _rows(m: Any, x: Tensor) -> Tensor:
    return torch.stack([x[:, :, i] for i in range(x.shape[2])], 2)


CASES += each(
    "QS513",
    (
        "use inputs of the size that the model was prepared with",
        lambda: _at_size(_rows, 12),
        lambda: _at_size(_rows, 16),
    ),
    (
        "prepare it with inputs of this size",
        lambda: _at_size(_rows, 12),
        lambda: _at_size(_rows, 12, 12),
    ),
    (
        "slices, `view`, `//`, `min` and `math.ceil` follow each input",
        lambda: _at_size(_rows, 12),
        lambda: _at_size(lambda m, x: x[:, :, : x.shape[2]], 12),
    ),
)
CASES += each(
    "QS514",
    (
        "return tensors and constants",
        lambda: through(_drop_b(Whole(lambda m, x: (m.a(x), x.shape[0])))),
        lambda: through(_drop_b(Whole(lambda m, x: (m.a(x), 4)))),
    ),
)


def _clamped(m: Any, x: Tensor) -> Tensor:
    x = x * 1
    with torch.no_grad():
        x.clamp_(0, 6)
    return x


CASES += each(
    "QS515",
    (
        "move it out of torch.no_grad() and write it without an in-place op",
        lambda: through(Net(_clamped)),
        lambda: through(Net(lambda m, x: (x * 1).clamp(0, 6))),
    ),
)


def _named(name: str) -> nn.Module:
    return nn.Sequential(
        Net(lambda m, x: m.d[name](x), d=nn.ModuleDict({name: nn.Conv2d(4, 4, 1)}))
    )


def _other_name() -> str:
    (found,) = told(lambda: prepare(_named("in"), (X,), qconfig="horizon_qat"))
    assert found.help
    return found.help.split("such as `")[1].split("`")[0]


CASES += each(
    "QS516",
    (
        "another name, such as `in_`",
        lambda: through(_named("in")),
        lambda: through(_named(_other_name())),
    ),
)


class Decodes(nn.Module):
    def __init__(self, both: bool) -> None:
        super().__init__()
        self.a, self.both = nn.Conv2d(3, 4, 1), both

    def forward(self, x: Tensor) -> Any:
        x = self.a(x)
        return x if self.training and not self.both else torch.sigmoid(x)


class Parts(nn.Module):
    """A part that evaluation alone calls."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.post = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Sigmoid()

    def forward(self, x: Tensor) -> Any:
        x = self.b(self.a(x))
        return x if self.training else self.post(x)


CASES += each(
    "QS517",
    (
        "what is to be quantized has to run in training too",
        lambda: through(Decodes(False)),
        lambda: through(Decodes(True)),
    ),
)
CASES += each(
    "QS518",
    (
        "name modules whose result forward uses in training and in evaluation",
        lambda: through(Parts(), prepare={"boundary": ["post"]}),
        lambda: through(Parts(), prepare={"boundary": ["a"]}),
        ("QS517",),
    ),
)
