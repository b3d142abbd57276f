"""Functions of one number become tables: float, fake-quant, integers and ONNX agree."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qatspec.api import DiagnosticError, lower, prepare, set_stage
from qatspec.quant.elementwise import is_function_of_one_number
from qatspec.types import QConfig, QSpec
from tests.forms import all_forms_agree
from tests.layers import Op

X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(4))


class Swish(nn.Module):
    """A module of a user's, with a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        return x * torch.sigmoid(self.beta * x)


def bump(x):
    """A function of a user's."""
    y = torch.exp(-x * x)
    y[x < -1] = 0.25
    return y


class Bump(nn.Module):
    def forward(self, x):
        return bump(x)


MODULES = {
    "Mish": nn.Mish,
    "CELU": nn.CELU,
    "CELU with alpha": lambda: nn.CELU(0.5),
    "SELU": nn.SELU,
    "Hardshrink": nn.Hardshrink,
    "Softshrink": lambda: nn.Softshrink(0.2),
    "Tanhshrink": nn.Tanhshrink,
    "LogSigmoid": nn.LogSigmoid,
    "Softsign": nn.Softsign,
    "Threshold": lambda: nn.Threshold(0.1, -0.5),
    "RReLU": nn.RReLU,
    "Mish in place": lambda: nn.Mish(inplace=True),
}
FUNCTIONS = {
    "mish": F.mish,
    "celu": lambda x: F.celu(x, alpha=2.0),
    "celu_": lambda x: torch.celu_(x * 1.0, 0.3),
    "selu": F.selu,
    "hardshrink": lambda x: F.hardshrink(x, 0.3),
    "softsign": F.softsign,
    "logsigmoid": F.logsigmoid,
    "threshold": lambda x: F.threshold(x, 0.2, 0.0),
    "sin": torch.sin,
    ".cos()": lambda x: x.cos(),
    ".sin_()": lambda x: (x * 1.0).sin_(),
    "tan": lambda x: torch.tan(x.tanh()),
    "log": lambda x: torch.log(x.abs() + 1),
    "log1p": lambda x: x.abs().log1p(),
    "log2": lambda x: torch.log2(x.abs() + 1),
    "expm1": torch.expm1,
    "exp2": torch.exp2,
    "reciprocal": lambda x: torch.reciprocal(x.abs() + 1),
    "erf": torch.erf,
    "erfc": torch.special.erfc,
    "atan": torch.atan,
    "sinh": torch.sinh,
    "logit": lambda x: torch.logit(x.sigmoid(), eps=0.05),
    "floor": lambda x: torch.floor(x * 3),
    "ceil": lambda x: (x * 3).ceil(),
    "round": lambda x: torch.round(x * 3),
    "trunc": lambda x: (x * 3).trunc(),
    "nan_to_num": torch.nan_to_num,
}
PARTS = {
    "where": lambda x: torch.where(x > 0, x, x * 0.1),
    "where and a constant": lambda x: torch.where(x.abs() < 0.5, torch.zeros_like(x), x),
    "where of numbers": lambda x: torch.where(x >= 0, 1.0, -1.0),
    ".where": lambda x: x.where(x < 0.3, torch.tensor(0.3)),
    "masked_fill": lambda x: x.masked_fill(x < 0, 0.25),
    "masked_fill of two": lambda x: x.masked_fill((x < -0.5) | (x > 0.5), 0.0),
    "logical_and": lambda x: torch.where(torch.logical_and(x > -1, x < 1), x, x.sign()),
    "a condition as a factor": lambda x: x * (x > 0).float(),
    "a condition to a dtype": lambda x: x * (x > 0.1).to(x.dtype) * 2,
    "a condition as an operand": lambda x: x * (x > 0),
    "not": lambda x: x.masked_fill(~(x > 0), 0.0),
    "isfinite": lambda x: torch.where(torch.isfinite(x), x, 0.0),
    "relu in a part": lambda x: torch.where(x > 1, 1 + (x - 1) * 0.1, F.relu(x)),
}


def net_of(layer: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), layer, nn.Conv2d(4, 4, 1)).eval()


def becomes_tables(net, tmp_path, qconfig="horizon_qat", config=None, tables=1) -> None:
    """All forms agree, and the Program has so many tables at least."""
    bounds = {"noise": 0.2, "steps": 2.01, "onnx_steps": 1.01}  # a step near zero flips numbers
    program = all_forms_agree(net, X, tmp_path, **bounds, qconfig=qconfig, prepare=config)
    assert sum(op.kind == "lut" for op in program.ops) >= tables


@pytest.mark.parametrize("name", MODULES)
def test_modules(name, tmp_path) -> None:
    becomes_tables(net_of(MODULES[name]()), tmp_path)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, tmp_path) -> None:
    becomes_tables(net_of(Op(FUNCTIONS[name])), tmp_path)


@pytest.mark.parametrize("name", PARTS)
def test_parts_that_compute_with_booleans(name, tmp_path) -> None:
    becomes_tables(net_of(Op(PARTS[name])), tmp_path)


def test_a_class_that_is_not_entered(tmp_path) -> None:
    config = {"non_traceable_module_class": [Swish]}
    becomes_tables(net := net_of(Swish()), tmp_path, config=config)
    prepared = prepare(net, (X,), qconfig="horizon_qat", prepare=config)
    assert set(net.state_dict()) <= set(prepared.model.state_dict())


def test_a_function_that_is_not_entered(tmp_path) -> None:
    becomes_tables(net_of(Bump()), tmp_path, config={"wrap": [bump]})


def test_16_bits(tmp_path) -> None:
    weight = QSpec(dtype="qint8", ch_axis=0)
    qconfig = QConfig(activation=QSpec(dtype="qint16"), weight=weight)
    becomes_tables(net_of(nn.CELU(0.5)), tmp_path, qconfig=qconfig)


def kind_of(net: nn.Module, qconfig) -> str:
    prepared = prepare(net, (X,), qconfig=qconfig)
    (found,) = [d for d in prepared.decisions.values() if d.op == "elementwise_function"]
    return found.kind.value


@pytest.mark.parametrize(
    ("layer", "rule"),
    [
        (nn.Mish(), {"object_type": {nn.Mish: None}}),
        (nn.Mish(), {"object_type": {"torch.nn.Mish": None}}),
        (nn.Mish(), {"module_name": {"1": None}}),
        (Op(lambda x: torch.sin(x)), {"object_type": {torch.sin: None}}),
        (Op(lambda x: x.cos()), {"object_type": {"torch.Tensor.cos": None}}),
        (Op(lambda x: F.mish(x)), {"object_type": {"torch.nn.functional.mish": None}}),
    ],
)
def test_rules_find_the_call_that_was_replaced(layer, rule) -> None:
    int8 = QConfig(activation=QSpec(dtype="qint8"), weight=QSpec(dtype="qint8", ch_axis=0))
    assert kind_of(net_of(layer), {"": int8}) == "observed"
    assert kind_of(net_of(layer), {"": int8, **rule}) == "float"


def centred(x):
    return x - x.sum() / x.numel()


def noisy(x):
    return x + torch.rand(x.shape) if x.ndim else x


class Lookup(nn.Module):
    """Each channel has a function of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.arange(4.0).reshape(4, 1, 1))

    def forward(self, x):
        return torch.maximum(x, x * self.slope)


def test_a_function_of_each_channel_is_none_of_one_number() -> None:
    config = {"non_traceable_module_class": [Lookup]}
    prepared = prepare(net_of(Lookup()), (X,), qconfig="horizon_qat", prepare=config)
    assert "elementwise_function" not in {d.op for d in prepared.decisions.values()}


class Scaled(nn.Module):
    def forward(self, x):
        return x / x.norm()


OTHERS = {
    "a sort": (Op(lambda x: torch.sort(x)[0]), {}),
    "a running product": (Op(lambda x: x.cumprod(1)), {}),
    "two tensors": (Op(lambda x: torch.atan2(x, x.flip(1))), {}),
    "by all numbers": (Scaled(), {"non_traceable_module_class": [Scaled]}),
    "neighbours": (nn.CrossMapLRN2d(2), {}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_functions_stay_refused(name) -> None:
    layer, config = OTHERS[name]
    prepared = prepare(net_of(layer), (X,), qconfig="horizon_qat", prepare=config)
    set_stage(prepared, "qat")
    prepared.model(X)
    set_stage(prepared, "eval")
    with pytest.raises(DiagnosticError) as error:
        lower(prepared, (X,))
    assert {d.code for d in error.value.diagnostics} == {"QS701"}


def test_random_and_global_functions_are_no_functions_of_one_number() -> None:
    def tried(function) -> bool:
        return is_function_of_one_number(function, (2, 3, 4), torch.float32)

    assert tried(torch.sin) and tried(bump) and tried(lambda x: x * 0 + 1)
    assert not tried(noisy)
    assert not tried(centred)
    assert not tried(lambda x: x.softmax(-1))
    assert not tried(lambda x: x.flatten().softmax(0).reshape(x.shape))
    assert not tried(lambda x: x.double())
    assert not tried(lambda x: x[:1])
    assert not tried(lambda x: (x, x))
    assert not tried(lambda x: 1 / 0)


def test_training_moves_a_parameter_of_the_function_and_the_table_with_it() -> None:
    net = net_of(Swish())
    prepared = prepare(
        net, (X,), qconfig="horizon_qat", prepare={"non_traceable_module_class": [Swish]}
    )
    set_stage(prepared, "qat")
    prepared.model(X).square().mean().backward()
    beta = dict(prepared.model.named_parameters())["1.beta"]
    assert beta.grad is not None and beta.grad != 0
    set_stage(prepared, "eval")

    def table():
        (name,) = [op.inputs[1] for op in lower(prepared, (X,)).ops if op.kind == "lut"]
        return lower(prepared, (X,)).consts[name]

    before = table()
    with torch.no_grad():
        beta.fill_(0.0)
    assert (before != table()).any()
