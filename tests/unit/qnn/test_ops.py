"""The op list of `march: qnn` against the vendor's compiler: what it takes becomes one context
node and computes the Program's integers, what it does not take is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from qatspec.api import DiagnosticError, compile as compile_program, lower
from qatspec.registry import registry
from tests.unit.export.test_float_ops import CASES

#: They only move numbers: the compiler takes no graph without anything to compute.
MOVES_ALONE = {
    "example of contiguous", "example of dropout", "example of guarded", "example of identity",
    "example of permute", "example of pixel_unshuffle",
}  # fmt: skip


def refusals(program):
    answers = (registry().march("qnn").supports(op, program) for op in program.ops)
    return [answer.reason for answer in answers if not answer.ok]


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
