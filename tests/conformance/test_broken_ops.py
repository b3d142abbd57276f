"""Handlers and fuse patterns that are broken on purpose, one fault each; and one of the guide's."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from qatspec.api import Annotation, Example, FusePattern, Observed, QuantHandler, lookup
from tests.conformance.failing import failing

GUIDE = Path(__file__).parents[2] / "plugins/README.md"


class Halve(nn.Module):
    canonical_op = "kit_halve"

    def forward(self, x):
        return x.abs() / 2


class Nameless(Halve):
    canonical_op = None


def annotate(node, context):
    return Annotation(output=Observed())


def lower(node, lowering):
    return lookup(lowering, node.args[0], lambda x: np.abs(x) / 2)


def wrong_lower(node, lowering):
    return lookup(lowering, node.args[0], lambda x: x / 2)


def to_onnx(node, writer):
    magnitude = writer.graph.node("Abs", [writer.operand(node.args[0])], f"{node.name}.abs")
    return writer.graph.node(
        "Mul", [magnitude, writer.graph.const("half", 0.5, np.float32)], node.name
    )


def wrong_onnx(node, writer):
    return writer.graph.node("Abs", [writer.operand(node.args[0])], node.name)


def meddling(node, context):
    context.graph.call_function(torch.neg, (node,))
    return Annotation()


def examples(build=Halve, reference=None):
    return {"examples": lambda: [Example(op="kit_halve", build=build, reference=reference)]}


def handler(**fields) -> QuantHandler:
    made = {"ops": ("kit_halve",), "annotate": annotate, "lower": lower, **examples()}
    return QuantHandler(name="kit_halve", summary="s", **{**made, **fields})


ANNOTATE, LOWER = "quant_handler_annotate_is_pure", "quant_handler_lower_equals_the_fake_quant"
ONNX = "quant_handler_to_onnx_equals_the_fake_quant"
REFERENCE = "quant_handler_lower_equals_the_reference"


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({}, []),
        ({"annotate": meddling}, [ANNOTATE, LOWER]),
        ({"annotate": lambda node, context: None}, [ANNOTATE, LOWER]),
        ({"lower": wrong_lower}, [LOWER]),
        ({"to_onnx": to_onnx}, []),
        ({"to_onnx": wrong_onnx}, [ONNX]),
        (examples(Nameless), [ANNOTATE, LOWER]),
        (examples(reference=lambda x: np.abs(x) / 2), []),
        (examples(reference=lambda x: np.abs(x) / 2.1), [REFERENCE]),
        (examples(reference=lambda x: 1 / 0), [REFERENCE]),
    ],
)
def test_handlers(fields, found):
    assert failing(quant_handlers=[handler(**fields)]) == found


def negate_instead(match):
    """A rewrite that changes what is computed."""
    last = match.nodes[-1]
    with match.unit.graph.inserting_after(last):
        made = match.unit.graph.call_function(torch.neg, (last,))
    made.meta.update(last.meta)
    match.unit.matches[made] = match.unit.matches[last]
    last.replace_all_uses_with(made, propagate_meta=False)
    made.args = (last,)


def rename(match):
    """A rewrite that finds something to do whenever it is asked."""
    unit, last = match.unit, match.nodes[-1]
    with unit.graph.inserting_after(last):
        made = unit.graph.call_method("contiguous", (last,))
    made.meta.update(last.meta)
    unit.matches[made] = unit.matches[last]
    last.replace_all_uses_with(made, propagate_meta=False)
    made.args = (last,)


FUSING = "fuse_pattern_fusing_keeps_eval_numerics"
AGAIN = "fuse_pattern_fusing_again_changes_nothing"
REASONS = "fuse_pattern_refusals_have_reasons"


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({}, []),
        ({"check": lambda match: None}, []),
        ({"check": lambda match: "never"}, [FUSING]),
        ({"check": lambda match: False}, [FUSING, REASONS]),
        ({"check": lambda match: " "}, [FUSING, REASONS]),
        ({"rewrite": negate_instead}, [FUSING, AGAIN]),
        ({"rewrite": rename}, [AGAIN]),
    ],
)
def test_patterns(fields, found):
    record = FusePattern(name="kit_pair", summary="s", pattern=("kit_halve", "relu"), **fields)
    assert failing(fuse_patterns=[record], quant_handlers=[handler()]) == found


class EveryOtherColumn(nn.Module):
    canonical_op = "every_other_column"

    def forward(self, x):
        return x[..., ::2]


@pytest.mark.parametrize(("step", "found"), [(2, []), (3, [LOWER, REFERENCE])])
def test_the_op_of_the_guide_that_shares_its_scale(step, found):
    (code,) = re.findall(r"```python\n(from qatspec.api import Annotation, Shared.*?)```",
                         GUIDE.read_text("utf-8"), re.DOTALL)  # fmt: skip
    functions = {}
    exec(code.replace("step=2", f"step={step}"), functions)
    example = Example(
        op="every_other_column", build=EveryOtherColumn, reference=lambda x: x[..., ::2]
    )
    record = QuantHandler(
        name="every_other_column", summary="s", ops=("every_other_column",),
        annotate=functions["annotate"], lower=functions["lower"], examples=lambda: [example],
    )  # fmt: skip
    assert failing(quant_handlers=[record]) == found
