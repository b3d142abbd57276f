"""The op list of `march: qnn` against the vendor's compiler: what it takes becomes one context
node and computes the Program's integers, what it does not take is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from qatspec.api import DiagnosticError, compile as compile_program, lower
from qatspec.export.real import tables
from qatspec.registry import registry
from tests.layers import Op
from tests.unit.export.test_float_ops import CASES

#: They only move numbers: the compiler takes no graph without anything to compute.
MOVES_ALONE = {
    "example of contiguous", "example of dropout", "example of guarded", "example of identity",
    "example of permute", "example of pixel_unshuffle",
}  # fmt: skip


def refusals(program):
    answers = (registry().march("qnn").supports(op, program) for op in program.ops)
    return [answer.reason for answer in answers if not answer.ok]


FUNCTIONS_OF_TORCH = {
    "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "hard sigmoid": nn.Hardsigmoid,
    "hard swish": nn.Hardswish, "swish": nn.SiLU, "gelu": nn.GELU, "elu": nn.ELU,
    "absolute value": lambda: Op(torch.abs), "leaky relu": lambda: nn.LeakyReLU(0.1),
}  # fmt: skip


def test_every_function_of_a_table_is_tried():
    names = {function.name for function in tables.FUNCTIONS}
    assert names | {"leaky relu"} == FUNCTIONS_OF_TORCH.keys()


@pytest.mark.parametrize("name", FUNCTIONS_OF_TORCH)
def test_a_function_of_one_number(qnn, name, settled):
    x = 3 * torch.randn(1, 4, 6, 6)
    net = nn.Sequential(nn.Conv2d(4, 4, 1), FUNCTIONS_OF_TORCH[name]())
    program = lower(settled(net, x, quantize_output=True), (x,))
    (op,) = [op for op in program.ops if op.kind == "lut"]
    assert tables.known_function(op, program).name == name
    assert refusals(program) == []
    ints = program.quantize(x.numpy())
    pairs = zip(compile_program(program, "qnn").run(*ints), program.run(*ints), strict=True)
    assert max(np.abs(a.astype(np.int64) - b).max() for a, b in pairs) <= 2


@pytest.mark.parametrize("name", sorted(set(CASES) - MOVES_ALONE))
def test_one_op(qnn, name, settled):
    shape, make = CASES[name]
    x = torch.randn(1, *shape)
    try:
        program = lower(settled(nn.Sequential(make()), x, quantize_output=True), (x,))
    except DiagnosticError:
        pytest.skip("no integer form")
    ints = program.quantize(x.numpy())
    refused = refusals(program)
    try:
        found = compile_program(program, "qnn").run(*ints)
    except DiagnosticError as problem:
        assert refused, problem
        return
    wanted = program.run(*ints)
    assert [(y.dtype, y.shape) for y in found] == [(y.dtype, y.shape) for y in wanted]
    distances = [np.abs(a.astype(np.int64) - b).max() for a, b in zip(found, wanted, strict=True)]
    assert (max(distances) > 2) == bool(refused)
