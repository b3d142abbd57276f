"""Handlers of plugins that serve classes and functions of torch."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qatspec.api import (
    Annotation,
    DiagnosticError,
    Observed,
    QuantHandler,
    hookimpl,
    lookup,
    lower,
    prepare,
    set_stage,
)
from qatspec.registry import Plugin, registry
from tests.layers import Op

X = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(1))


def plugin(**fields) -> Plugin:
    """Its handler gives 1 for every number, which the op itself does not."""
    record = QuantHandler(
        name="ones",
        summary="a table of ones",
        annotate=lambda node, context: Annotation(output=Observed()),
        lower=lambda node, lowering: lookup(lowering, node.args[0], lambda x: 0 * x + 1),
        **fields,
    )
    hooks = {"qatspec_quant_handlers": staticmethod(hookimpl(lambda: [record]))}
    return Plugin("ones", "dist-ones", "1", type("Ones", (), hooks)())


def result(layer: nn.Module):
    prepared = prepare(nn.Sequential(layer), (X,), qconfig="horizon_qat", quantize_output=True)
    set_stage(prepared, "qat")
    prepared.model(X)
    set_stage(prepared, "eval")
    program = lower(prepared, (X,))
    (real,) = program.dequantize(program.run(*program.quantize(X.numpy())))
    return real


MISH = ("torch.nn.Mish", "torch.nn.functional.mish")
CALLS = {"module": nn.Mish(), "function": Op(lambda x: F.mish(x))}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fields", [
    {"ops": ("mish",), "spellings": {"mish": MISH}},
    {"ops": MISH},
])  # fmt: skip
def test_a_handler_of_a_plugin_is_asked_before_the_table(fields, call) -> None:
    assert result(CALLS[call]).std() > 0
    with registry().added(plugin(**fields)):
        ones = result(CALLS[call])
        assert ones.max() == ones.min() and 0 < ones.max() <= 1
    assert result(CALLS[call]).std() > 0


UNKNOWN = {
    "module": nn.CrossMapLRN2d(2),
    "function": Op(lambda x: torch.cumprod(x, 1)),
    "method": Op(lambda x: x.cumprod(1)),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_the_fix_of_an_unknown_op_works(kind) -> None:
    with pytest.raises(DiagnosticError) as error:
        result(UNKNOWN[kind])
    (found,) = [d for d in error.value.diagnostics if d.code == "QS701"]
    name = re.search(r'ops=\("([^"]+)",\)', found.help).group(1)
    with registry().added(plugin(ops=(name,))):
        ones = result(UNKNOWN[kind])
        assert ones.max() == ones.min()
