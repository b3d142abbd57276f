"""QS701 to QS708: integers."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.diag import Diagnostic
from qatspec.lower import lower
from qatspec.prepare import set_stage
from qatspec.stages.foresight import sums_at_the_limit
from qatspec.types import QConfig, QSpec
from tests.fixes.following import (
    Case,
    Net,
    Whole,
    X,
    calibrated,
    each,
    softmax_in_float,
    through,
    told,
)

INT16 = QConfig(activation=QSpec(dtype="qint16"), weight=QSpec(dtype="qint8", ch_axis=0))
INT16_WEIGHT = QConfig(activation=QSpec(dtype="qint16"), weight=QSpec(dtype="qint16", ch_axis=0))
INT4 = QConfig(activation=QSpec(dtype="qint8"), weight=QSpec(dtype="qint4", ch_axis=0))
INT8 = QConfig(activation=QSpec(dtype="qint8"), weight=QSpec(dtype="qint8", ch_axis=0))


def _before(step: Any) -> Any:
    return lambda: through(Net(step))


def _first(step: Any) -> Any:
    """The step in front of the first convolution."""
    return Whole(lambda m, x: m.b(m.a(step(x))))


def _assigned(x: Tensor, places: Any) -> Tensor:
    x = x.clone()
    x[places] = 0.5
    return x


KEPT = {"non_traceable_module_name": ["0"]}
CASES: list[Case] = []
CASES += each(
    "QS701",
    (
        "amax over dims",
        _before(lambda m, x: x / x.max()),
        _before(lambda m, x: x / x.amax((1, 2, 3), True).abs()),
    ),
    (
        "assign at fixed positions behind the batch",
        _before(lambda m, x: _assigned(x, 0)),
        _before(lambda m, x: _assigned(x, (slice(None), 0))),
    ),
    (
        "move it, with what follows it, behind the outputs",
        _before(
            lambda m, x: F.grid_sample(x, x[:, :2].tanh().permute(0, 2, 3, 1), align_corners=False)
        ),
        lambda: through(Whole(lambda m, x: m.a(x))),
        ("QS506",),
    ),
    ("keep the whole batch", _before(lambda m, x: x[[0, 1]]), _before(lambda m, x: x)),
    (
        "name another dim",
        _before(lambda m, x: torch.softmax(x, 0)),
        _before(lambda m, x: torch.softmax(x, 1)),
    ),
    (
        "name the dims to reduce",
        lambda: through(Whole(lambda m, x: (m.b(m.a(x)), m.a(x).argmax()))),
        lambda: through(Whole(lambda m, x: (m.b(m.a(x)), m.a(x).argmax(dim=1)))),
    ),
    (
        "pad other dims",
        _before(lambda m, x: F.pad(x, (0, 0, 0, 0, 0, 0, 1, 1))),
        _before(lambda m, x: F.pad(x, (1, 1))),
    ),
    ("slice other dims, forwards", _before(lambda m, x: x[1:]), _before(lambda m, x: x[:, :, 1:])),
    (
        "move it, with what follows it, behind the outputs",
        _before(lambda m, x: torch.cumprod(x, 1)),
        lambda: through(Whole(lambda m, x: m.a(x))),
        ("QS506",),
    ),
    (
        "list only the modules before it under `quantize: modules`",
        softmax_in_float,
        lambda: softmax_in_float(modules={"a": {}}),
    ),
)

FLOAT_A = {"": {"activation": {}, "weight": {}}, "module_name": {"a": None}}
ALL = {"": {"activation": {}, "weight": {}}}
CASES += each(
    "QS702",
    (
        "remove the `null` rule that matches it",
        lambda: through(Net(lambda m, x: F.max_pool2d(x, 2)), qconfig=FLOAT_A),
        lambda: through(Net(lambda m, x: F.max_pool2d(x, 2)), qconfig=ALL),
    ),
    (
        "or leave the whole module unprepared",
        lambda: through(Net(lambda m, x: x), qconfig=FLOAT_A),
        lambda: through(Net(lambda m, x: x), modules={"b": {}}),
    ),
    (
        "out of `non_traceable_module_name` and `non_traceable_module_class`",
        lambda: through(
            nn.Sequential(Net(lambda m, x: x)), prepare={"non_traceable_module_name": ["0"]}
        ),
        lambda: through(nn.Sequential(Net(lambda m, x: x))),
    ),
)
CASES += each(
    "QS703",
    (
        "return only tensors, in tuples, lists and dicts, and constants",
        lambda: through(Whole(lambda m, x: (m.b(m.a(x)), x.shape[0]))),
        lambda: through(Whole(lambda m, x: m.b(m.a(x)))),
    ),
)


def _wide(**settings: Any) -> list[Diagnostic]:
    net = nn.Sequential(nn.Conv2d(64, 4, 16))
    net[0].weight.data.fill_(1.0)
    return through(net, torch.ones(2, 64, 16, 16), **settings)


def _loud(qconfig: QConfig) -> list[Diagnostic]:
    def act() -> Any:
        net = nn.Sequential(nn.Conv2d(64, 4, 3))
        prepared = calibrated(net, torch.randn(2, 64, 8, 8), qconfig=qconfig)
        set_stage(prepared, "eval")
        return sums_at_the_limit(lower(prepared, prepared.example_inputs))

    return told(act)


CASES += each(
    "QS704",
    (
        "use fewer bits for this module",
        lambda: _wide(qconfig=INT16_WEIGHT),
        lambda: _wide(qconfig=INT8),
    ),
)
CASES += each(
    "QS708",
    (
        "fewer bits for the weights or the activations of these modules",
        lambda: _loud(INT16),
        lambda: _loud(INT8),
    ),
)


def _scaled(path: str, repair: Any = None) -> list[Diagnostic]:
    """A scale that is no number, and what is done about it."""

    def act() -> Any:
        prepared = calibrated(Net(lambda m, x: x))
        set_stage(prepared, "eval")
        earlier = copy.deepcopy(prepared.model.state_dict())
        prepared.model.get_submodule(path).scale.data.fill_(torch.nan)
        if repair is not None:
            repair(prepared, earlier)
        lower(prepared, (X,))

    return told(act)


def _calibrate(prepared: Any, earlier: Any) -> None:
    set_stage(prepared, "calibration")
    prepared.model(X)
    set_stage(prepared, "eval")


def _go_back(prepared: Any, earlier: Any) -> None:
    prepared.model.load_state_dict(earlier)


ACTIVATION, WEIGHT = "a_activation_post_process_0", "a.weight_fake_quant"
CASES += each(
    "QS705",
    ("calibrate again", lambda: _scaled(ACTIVATION), lambda: _scaled(ACTIVATION, _calibrate)),
    ("earlier checkpoint", lambda: _scaled(ACTIVATION), lambda: _scaled(ACTIVATION, _go_back)),
    ("start from an earlier", lambda: _scaled(WEIGHT), lambda: _scaled(WEIGHT, _go_back)),
)
CASES += each(
    "QS706",
    (
        "prepare the first module with quantize_input: true",
        lambda: through(Net(lambda m, x: x), quantize_input=False),
        lambda: through(Net(lambda m, x: x), quantize_input=True),
    ),
)


def _scores(m: Any, x: Tensor) -> Tensor:
    return m.a(x) * x.mean((1, 2, 3), True)


CASES += each(
    "QS707",
    (
        "move the float part into `predict`",
        lambda: through(Whole(_scores), modules={"a": {}}),
        lambda: through(Whole(lambda m, x: m.a(x)), modules={"a": {}}),
    ),
)
