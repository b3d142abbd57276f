"""Every op of a Program names the node, the line of the model's code and the rule it comes from."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from qatspec.graph import Prepared
from qatspec.lower import lower
from qatspec.prepare import prepare
from qatspec.quant.fake_quant import FakeQuantize
from tests.nets import settle

IMAGES = torch.linspace(-1, 1, 256).reshape(1, 4, 8, 8)


class Body(nn.Module):
    """A conv and an op, and what a test puts before them."""

    def __init__(self, before: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        self.conv, self.last, self.before = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), before

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(self.before(x))
        return self.last(y * y)


def repeated(x: Tensor) -> Tensor:
    for _ in range(x.shape[2] - 6):
        x = x.relu()
    return x


def rounded(x: Tensor) -> Tensor:
    return torch.cat(
        [x[:, :, : math.ceil(x.shape[2] / 2)], x[:, :, math.ceil(x.shape[2] / 2) :]], 2
    )


def asserted(x: Tensor) -> Tensor:
    assert x.shape[1] == 4
    return x.relu() if x.shape[2] > 4 else x


def in_place(x: Tensor) -> Tensor:
    y = x.relu()
    y += x
    return y.mul_(2)


def sized(x: Tensor) -> Tensor:
    return x + torch.ones_like(x)


BEFORE = {f.__name__: f for f in (repeated, rounded, asserted, in_place, sized)} | {
    "nothing": lambda x: x
}


def origins(prepared: Prepared) -> dict[str, tuple[str, str]]:
    """node -> (op, source) over the ops of the Program."""
    program = lower(prepared, (IMAGES,))
    assert all(op.origin.op for op in program.ops)  # each has a decision
    return {op.origin.node: (op.origin.op, op.origin.source) for op in program.ops}


@pytest.mark.parametrize("modules", [None, {"0": {}, "1": {}}])
@pytest.mark.parametrize("before", BEFORE)
def test_ops_of_a_module_that_decides_by_shapes_name_their_nodes(
    before: str, modules: dict[str, Any] | None
) -> None:
    net = nn.Sequential(Body(BEFORE[before]), Body())
    prepared = settle(net, IMAGES, qconfig="horizon_qat", quantize_output=True, modules=modules)
    found = origins(prepared)
    first, second = ("0:", "1:") if modules else (":_0_", ":_1_")
    for prefix in (first, second):
        assert found[f"{prefix}conv"][0] == found[f"{prefix}last"][0] == "conv2d"
        line = Body.forward.__code__.co_firstlineno + 1
        assert found[f"{prefix}conv"][1] == f"tests/unit/lower/test_provenance.py:{line}"


def test_ops_of_a_standalone_module_name_the_nodes_of_that_module() -> None:
    net = nn.Sequential(Body(), Body(repeated))
    config = {"standalone_module_name": ["1"]}
    prepared = settle(net, IMAGES, qconfig="horizon_qat", prepare=config, quantize_output=True)
    found = origins(prepared)
    assert found[":_0_conv"][0] == found["1:conv"][0] == found["1:last"][0] == "conv2d"


def test_a_module_that_is_called_twice_names_the_same_nodes_in_both_calls() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = Body(repeated)

        def forward(self, x: Tensor) -> Tensor:
            return self.body(self.body(x))

    prepared = settle(
        Twice(), IMAGES, qconfig="horizon_qat", quantize_output=True, modules={"body": {}}
    )
    convs = [op.origin.node for op in lower(prepared, (IMAGES,)).ops if op.kind == "conv"]
    assert convs == ["body:conv", "body:last"] * 2


@pytest.mark.parametrize("before", BEFORE)
def test_every_node_of_a_prepared_module_has_a_line_of_the_generated_code(before: str) -> None:
    model = prepare(Body(BEFORE[before]), (IMAGES,), qconfig="horizon_qat").model
    assert any(isinstance(m, FakeQuantize) for m in model.modules())
    named = [n.name for n in model.graph.nodes if n.op not in ("placeholder", "output")]
    assert list(model.node_lines().values()) == named
