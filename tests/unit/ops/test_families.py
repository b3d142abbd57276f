"""A family of ops is complete: every part of every op is there, and its examples feed all tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import qatspec.ops
from qatspec.export import export_qat_onnx
from qatspec.graph.context import GraphContext
from qatspec.graph.ops import resolve_spelling
from qatspec.graph.trace import trace
from qatspec.ops.plugin import FAMILIES, qatspec_quant_handlers
from qatspec.registry import registry
from qatspec.types import Annotation, Example, Lazy, OpTrait, QuantHandler
from tests.unit.export.test_qdq import run

HANDLERS = {handler.name: handler for handler in qatspec_quant_handlers()}
EXAMPLES = {
    e.op: e
    for h in HANDLERS.values()
    for e in (h.examples() if h.examples else ())
    if e.op in h.ops
}
OPS = sorted(op for handler in HANDLERS.values() for op in handler.ops)


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
    if OpTrait.SIZES in handler.traits:
        return missing
    if handler.to_onnx is None:
        missing.append(f"`{handler.name}`: no float ONNX form: give it `to_onnx`")
    exampled = {e.op for e in handler.examples()} if handler.examples else set()
    for op in handler.ops:
        if op not in handler.spellings:
            missing.append(f"`{op}`: no spelling")
        if op not in exampled:
            missing.append(f"`{op}`: no example in `examples`")
    referenced = exampled and any(e.reference for e in handler.examples() if e.op in handler.ops)
    if handler.lower is not None and not referenced:
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


def test_every_folder_is_a_family() -> None:
    folders = {p.parent.name for p in Path(qatspec.ops.__path__[0]).glob("*/record.py")}
    assert folders == set(FAMILIES)


@pytest.mark.parametrize("op", OPS)
def test_every_spelling_names_something(op: str) -> None:
    handler = registry().handler_for(op)
    assert handler is not None
    for spelling in handler.spellings[op]:
        resolve_spelling(spelling)


@pytest.mark.parametrize("op", EXAMPLES)
def test_an_example_is_its_op_and_is_annotated(op: str) -> None:
    net, x = nn.Sequential(EXAMPLES[op].build()).eval(), _input(EXAMPLES[op])
    context = GraphContext(net, graph := trace(net, (x,)))
    (node, *_) = [n for n in graph.nodes if context.op(n) == op]
    handler = registry().handler_for(op)
    assert handler is not None
    assert isinstance(handler.annotate(node, context), Annotation)


@pytest.mark.parametrize("op", EXAMPLES)
def test_an_example_as_float_onnx_is_its_module(
    op: str, tmp_path: Path, settled: Callable[..., object]
) -> None:
    example = EXAMPLES[op]
    x = _input(example)
    prepared = settled(nn.Sequential(example.build()).eval(), x, quantize_output=True)
    export_qat_onnx(prepared, tmp_path / "qat.onnx")
    (real,) = run(tmp_path / "qat.onnx", x)
    with torch.no_grad():
        expected = prepared.model(x).numpy()
    # results are on a grid or float: a tie may be rounded either way
    step = max(np.abs(expected).max() / 127, 1e-5)
    assert np.abs(real - expected).max() <= 1.01 * step


def _input(example: Example) -> torch.Tensor:
    return torch.randn(example.shape, generator=torch.Generator().manual_seed(5))
