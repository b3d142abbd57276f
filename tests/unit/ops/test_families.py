"""A family of ops is complete: every part of every op is there, and its examples feed all tests."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from torch import nn

from qatspec.graph.context import GraphContext
from qatspec.graph.ops import resolve_spelling
from qatspec.graph.trace import trace
from qatspec.ops.plugin import qatspec_quant_handlers
from qatspec.registry import registry
from qatspec.types import Annotation, Example, Float, Lazy, Observed, OpTrait, QuantHandler, Shared

HANDLERS = {handler.name: handler for handler in qatspec_quant_handlers()}
OPS = sorted(op for handler in HANDLERS.values() for op in handler.ops)


def examples(handler: QuantHandler) -> dict[str, Example]:
    """op -> its example; none where the folder has no `example.py`."""
    try:
        found = handler.examples() if handler.examples else ()
    except ImportError:  # `missing_parts` says so
        found = ()
    return {e.op: e for e in found if e.op in handler.ops}


EXAMPLES = {op: e for handler in HANDLERS.values() for op, e in examples(handler).items()}


def missing_parts(handler: QuantHandler) -> list[str]:
    """What a handler lacks, in words that name the op and the file."""
    missing = []
    for field in fields(handler):
        value = getattr(handler, field.name)
        if isinstance(value, Lazy):
            try:
                value.resolve()
            except (ImportError, AttributeError) as error:
                missing.append(f"`{handler.name}`: {field.name}: {error}")
    if OpTrait.SIZES in handler.traits or missing:
        return missing
    if handler.to_onnx is None:
        missing.append(f"`{handler.name}`: no float ONNX form: give it `to_onnx`")
    found = examples(handler)
    for op in handler.ops:
        if op not in handler.spellings:
            missing.append(f"`{op}`: no spelling")
        if op not in found:
            missing.append(f"`{op}`: no example in `examples`")
    if handler.lower is not None and found and not any(e.reference for e in found.values()):
        missing.append(f"`{handler.name}`: no example has a reference")
    return missing


@pytest.mark.parametrize("name", HANDLERS)
def test_no_part_is_forgotten(name: str) -> None:
    assert not missing_parts(HANDLERS[name])


def test_a_forgotten_part_is_named() -> None:
    made = {f.name: getattr(HANDLERS["shuffle"], f.name) for f in fields(QuantHandler)}
    without = QuantHandler(**{**made, "to_onnx": None})
    assert missing_parts(without) == ["`shuffle`: no float ONNX form: give it `to_onnx`"]
    one = tuple(e for e in made["examples"]() if e.op != "pixel_shuffle")
    without = QuantHandler(**{**made, "examples": lambda: one})
    assert missing_parts(without) == ["`pixel_shuffle`: no example in `examples`"]


@pytest.mark.parametrize("op", OPS)
def test_every_spelling_names_something(op: str) -> None:
    handler = registry().handler_for(op)
    assert handler is not None
    for spelling in handler.spellings[op]:
        resolve_spelling(spelling)


@pytest.mark.parametrize("op", EXAMPLES)
def test_an_op_that_only_moves_numbers_shares_its_operands_scale(op: str) -> None:
    """The result of one operand, of the operand's numbers and zeros alone, is exact on its scale;
    any other result has a range of its own."""
    net, handler = nn.Sequential(EXAMPLES[op].build()).eval(), registry().handler_for(op)
    x = 8 * torch.randn(EXAMPLES[op].shape, generator=torch.Generator().manual_seed(5))
    context = GraphContext(net, graph := trace(net, (x,)))
    (node, *_) = [n for n in graph.nodes if context.op(n) == op]
    assert handler is not None
    annotation = handler.annotate(node, context)
    assert isinstance(annotation, Annotation)
    if not context.is_float_tensor(_first(context.value(node))):
        return  # the numbers of integers are exact without a scale
    if isinstance(annotation.output, Float):
        assert annotation.output.reason
        return
    with torch.no_grad():
        moved = torch.isin(net(x), torch.cat([x.flatten(), torch.zeros(1)])).all()
    exact = bool(moved) and len(list(context.float_inputs(node))) == 1
    assert isinstance(annotation.output, Shared if exact else Observed)
    assert (
        (annotation.kind == "anchor") == annotation.has_weight == (OpTrait.WEIGHT in handler.traits)
    )


def _first(value: object) -> object:
    """Of several results the first."""
    return value[0] if isinstance(value, (list, tuple)) else value
