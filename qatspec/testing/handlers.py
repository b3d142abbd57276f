"""Checks of quant handlers."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import fx, nn

from qatspec.graph.context import GraphContext
from qatspec.graph.trace import trace
from qatspec.ir import RANGE
from qatspec.lower import lower
from qatspec.onnx import export_qat_onnx
from qatspec.referee import interpret
from qatspec.testing.nets import KNOWN, Chain, alone, images, prepared_for_eval
from qatspec.testing.subject import Skipped, Subject
from qatspec.types import Annotation, QuantHandler

_NO_EXAMPLE = "the kit has no layer for it: give its handler an `example`"


def annotate_is_pure(subject: Subject, handler: QuantHandler) -> None:
    """annotate gives an Annotation, the same one again, and leaves the graph alone."""
    for op, example in _examples(handler).items():
        context, found = _calls(Chain(example).eval(), op)
        before = str(context.graph)
        first, second = (handler.annotate(found[-1], context) for _ in range(2))
        assert isinstance(first, Annotation), f"annotate of `{op}` gave {first!r}"
        assert first == second, f"annotate of `{op}` says something else the second time"
        assert str(context.graph) == before, f"annotate of `{op}` changes the graph"


def lower_equals_the_fake_quant(subject: Subject, handler: QuantHandler) -> None:
    """The integers are at most one step from the fake-quant model (rule: one step of accuracy)."""
    if handler.lower is None:
        raise Skipped("it has no integer form")
    for op, example in _examples(handler).items():
        context, found = _calls(Chain(example).eval(), op)
        prepared = prepared_for_eval(Chain(example))
        there = op in KNOWN or any(d.op == op for d in prepared.decisions.values())
        whole = not any(context.carries_float(node) for node in found)
        assert there or whole, f"no rule reached the `{op}` of its example"
        if any(d.op == op and d.kind.computes_in_float for d in prepared.decisions.values()):
            continue
        program = lower(prepared, (images(),))
        (real,) = program.dequantize(program.run(*program.quantize(images().numpy())))
        with torch.no_grad():
            expected = prepared.model(images()).numpy()
        steps = np.abs(real - expected) / program.outputs[0].scale.max()
        assert steps.max() < 1.01, f"`{op}` differs from its fake-quant by {steps.max():.2f} steps"


def to_onnx_equals_the_fake_quant(subject: Subject, handler: QuantHandler) -> None:
    """The Q/DQ file, run by onnxruntime, is at most one step from the fake-quant model."""
    if handler.to_onnx is None:
        raise Skipped("it writes no ONNX of its own")
    try:
        import onnxruntime
    except ImportError as error:
        raise Skipped("onnxruntime is not installed") from error
    for op, example in _examples(handler).items():
        prepared = prepared_for_eval(Chain(example))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "qat.onnx"
            export_qat_onnx(prepared, path)
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (real,) = session.run(None, {session.get_inputs()[0].name: images().numpy()})
        with torch.no_grad():
            expected = prepared.model(images()).numpy()
        step = lower(prepared, (images(),)).outputs[0].scale.max() if handler.lower else 1e-4
        steps = np.abs(real - expected).max() / step
        assert steps < 1.01, f"`{op}` as ONNX differs from its fake-quant by {steps:.2f} steps"


def lower_equals_the_reference(subject: Subject, handler: QuantHandler) -> None:
    """Annotated, lowered and interpreted, the op is what its `reference` says of the real numbers
    that its input integers stand for, within one step of its result's scale."""
    if handler.lower is None or handler.reference is None:
        raise Skipped("it has no integer form" if handler.lower is None else "it has no reference")
    if handler.example is None:
        raise Skipped(_NO_EXAMPLE)
    torch.manual_seed(0)
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    program = lower(prepared_for_eval(nn.Sequential(handler.example()), x), (x,))
    ints = program.quantize(x.numpy())
    (integers,) = interpret(program, *ints)
    (port,) = program.outputs
    wanted = handler.reference(program.inputs[0].dequantize(ints[0]).astype(np.float64))
    low, high = (level * port.scale.max() for level in RANGE[port.dtype])
    steps = np.abs(port.dequantize(integers) - np.clip(wanted, low, high)) / port.scale.max()
    assert steps.max() < 1.01, f"its integers are {steps.max():.2f} steps from its reference"


def _calls(net: nn.Module, op: str) -> tuple[GraphContext, list[fx.Node]]:
    """The graph of an example and its calls of `op`; there must be one."""
    graph = trace(net, (images(),))
    context = GraphContext(net, graph)
    found = [node for node in graph.nodes if context.op(node) == op]
    assert found, f"the example of `{op}` has no such op: is `canonical_op` set on its class?"
    return context, found


def _examples(handler: QuantHandler) -> dict[str, nn.Module]:
    """The handler's ops that there is a layer for: the kit's, and its own for the first."""
    found = {op: made for op in handler.ops if (made := alone(op))}
    if handler.example is not None:
        torch.manual_seed(0)
        found.setdefault(handler.ops[0], handler.example())
    if not found:
        raise Skipped(_NO_EXAMPLE)
    return found
