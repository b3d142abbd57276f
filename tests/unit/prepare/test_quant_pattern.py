"""`additional_quant_pattern`: the handler that it names serves the op, or it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qatspec.api import Annotation, Observed, QuantHandler, hookimpl, lookup
from qatspec.diag import DiagnosticError
from qatspec.export import export_qat_onnx
from qatspec.lower import lower
from qatspec.prepare import prepare, set_stage
from qatspec.registry import Plugin, registry
from tests.fixes.following import written

X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Ramp(nn.Module):
    """A module that no handler knows: its code reads the numbers of its operand."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(np.clip(x.detach().numpy() + 0.5, 0, 1))


class Net(nn.Module):
    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.a, self.act, self.b = nn.Conv2d(3, 4, 1), act, nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Any:
        return self.b(self.act(self.a(x)))


def to_onnx(node: Any, writer: Any) -> str:
    x = writer.operand(node.args[0])
    half, low, high = (writer.graph.const("number", v, np.float32) for v in (0.5, 0.0, 1.0))
    moved = writer.graph.node("Add", [x, half], f"{node.name}.moved")
    return writer.graph.node("Clip", [moved, low, high], node.name)


RAMP = QuantHandler(
    name="ramp",
    summary="a ramp from -0.5 to 0.5",
    ops=("ramp",),
    annotate=lambda node, context: Annotation(output=Observed()),
    lower=lambda node, lowering: lookup(lowering, node.args[0], lambda x: np.clip(x + 0.5, 0, 1)),
    to_onnx=to_onnx,
)


@pytest.fixture
def ramp() -> Iterator[None]:
    hooks = {"qatspec_quant_handlers": staticmethod(hookimpl(lambda: [RAMP]))}
    with registry().added(Plugin("ramp", "dist-ramp", "1", type("Ramp", (), hooks)())):
        yield


def converted(net: nn.Module, pattern: Any, folder: Path) -> tuple[Tensor, np.ndarray]:
    """(the fake-quant model's result, the Program's)."""
    config = {"additional_quant_pattern": pattern}
    prepared = prepare(net.eval(), (X,), qconfig="horizon_qat", prepare=config)
    with torch.no_grad():
        prepared.model(X)
        set_stage(prepared, "eval")
        program = lower(prepared, (X,))
        export_qat_onnx(prepared, folder / "qat.onnx")
        (real,) = program.dequantize(program.run(*program.quantize(X.numpy())))
        return prepared.model(X), real


@pytest.mark.parametrize("value", ["ramp", RAMP], ids=["by name", "the record"])
def test_a_registered_handler_serves_a_class(ramp: None, value: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    fake, real = converted(Net(Ramp()), {Ramp: value}, tmp_path)
    np.testing.assert_allclose(real, fake.numpy(), atol=0.02)
    assert real.std() > 0.02


def test_it_serves_a_class_that_another_handler_knows(ramp: None, tmp_path: Path) -> None:
    """The integers are those of the handler that the spec names."""
    torch.manual_seed(0)
    net = Net(nn.Hardsigmoid())
    prepared = prepare(
        net.eval(), (X,), qconfig="horizon_qat",
        prepare={"additional_quant_pattern": {nn.Hardsigmoid: "ramp"}},
    )  # fmt: skip
    assert prepared.decisions[":act"].op == "ramp"


REFUSED = {
    "a chain, by a handler of other ops": (nn.ReLU(), {(nn.Conv2d, nn.ReLU): "ramp"}),
    "a class with weights": (nn.ReLU(), {nn.Conv2d: "ramp"}),
    "a handler of several other ops": (nn.Sigmoid(), {nn.Sigmoid: "conv"}),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_handler_that_could_not_serve_is_refused(ramp: None, kind: str, tmp_path: Path) -> None:
    act, pattern = REFUSED[kind]
    with pytest.raises(DiagnosticError, match="which it does not serve") as caught:
        converted(Net(act), pattern, tmp_path)
    assert {d.code for d in caught.value.diagnostics} == {"QS602"}
    assert "QuantHandler(ops=" in str(caught.value.diagnostics[0].help)
    own = "lut" if isinstance(act, nn.Sigmoid) else "conv"  # the handler of this op
    converted(Net(act), {next(iter(pattern)): own}, tmp_path)


IDLE = {
    "fused": ({nn.ReLU: "conv"}, "`act` is fused behind `a`, which decides"),
    "not there": ({nn.Sigmoid: "conv"}, "the prepared modules have none"),
}


@pytest.mark.parametrize("kind", IDLE)
def test_a_pattern_without_effect_is_reported(kind: str) -> None:
    pattern, why = IDLE[kind]
    config = {"additional_quant_pattern": pattern}
    prepared = prepare(Net(nn.ReLU()).eval(), (X,), qconfig="horizon_qat", prepare=config)
    (found,) = (w for w in prepared.warnings if w.code == "QS602")
    assert found.message.endswith(why)
    fixed = {"additional_quant_pattern": {(nn.Conv2d, nn.ReLU): "conv"}}
    prepared = prepare(Net(nn.ReLU()).eval(), (X,), qconfig="horizon_qat", prepare=fixed)
    assert not [w for w in prepared.warnings if w.code == "QS602"]


def test_a_refused_op_names_the_key_and_following_it_serves_the_op(
    ramp: None, tmp_path: Path
) -> None:
    """QS701 prints the YAML; `ramp` takes the place of its placeholder."""
    torch.manual_seed(0)
    layer = nn.CrossMapLRN2d(2)
    with pytest.raises(DiagnosticError) as caught:
        converted(Net(layer), {}, tmp_path)
    (found,) = (d for d in caught.value.diagnostics if d.code == "QS701")
    config = written(str(found.help), "prepare")["additional_quant_pattern"]
    assert config == {"torch.nn.CrossMapLRN2d": "NAME"}
    fake, real = converted(Net(layer), dict.fromkeys(config, "ramp"), tmp_path)
    assert real.shape == tuple(fake.shape)


def test_the_classes_of_files_that_a_spec_names(ramp: None) -> None:
    """A subclass is served as its base is."""

    class Steeper(Ramp):
        pass

    config = {"additional_quant_pattern": {Ramp: "ramp"}}
    prepared = prepare(Net(Steeper()).eval(), (X,), qconfig="horizon_qat", prepare=config)
    assert prepared.decisions[":act"].op == "ramp"
