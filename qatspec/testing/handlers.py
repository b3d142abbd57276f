"""Checks of quant handlers."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import fx, nn

from qatspec.export import export_qat_onnx
from qatspec.export.runner import open_session
from qatspec.graph.context import GraphContext
from qatspec.graph.trace import trace
from qatspec.ir import RANGE
from qatspec.lower import lower
from qatspec.referee import interpret
from qatspec.testing.nets import alone, examples, images, prepared_for_eval
from qatspec.testing.subject import Skipped, Subject
from qatspec.types import Annotation, Example, QuantHandler

_NO_EXAMPLE = "it has no example of its ops: give its handler `examples`"


def annotate_is_pure(subject: Subject, handler: QuantHandler) -> None:
    """annotate returns an Annotation, the same one again, and does not change the graph."""
    for example in _examples(handler):
        op = example.op
        context, calls = _calls(example)
        before = str(context.graph)
        first, second = (handler.annotate(calls[-1], context) for _ in range(2))
        assert isinstance(first, Annotation), f"annotate of `{op}` gave {first!r}"
        assert first == second, f"annotate of `{op}` says something else the second time"
        assert str(context.graph) == before, f"annotate of `{op}` changes the graph"


def lower_equals_the_fake_quant(subject: Subject, handler: QuantHandler) -> None:
    """The integers are at most one step from the fake-quant model (rule: one step of accuracy)."""
    if handler.lower is None:
        raise Skipped("it has no integer form")
    for example in _examples(handler):
        op, x = example.op, images(example.shape)
        context, calls = _calls(example)
        prepared = prepared_for_eval(alone(example), x)
        there = any(op == d.op or calls[-1].name in d.group for d in prepared.decisions.values())
        is_plain = not any(context.carries_float(node) for node in calls)
        assert there or is_plain, f"no rule reached the `{op}` of its example"
        if any(d.op == op and d.kind.computes_in_float for d in prepared.decisions.values()):
            continue
        program = lower(prepared, (x,))
        (real,) = program.dequantize(program.run(*program.quantize(x.numpy())))
        with torch.no_grad():
            expected = prepared.model(x).numpy()
        steps = np.abs(real - expected) / program.outputs[0].scale.max()
        assert steps.max() < 1.01, f"`{op}` differs from its fake-quant by {steps.max():.2f} steps"


def to_onnx_equals_the_fake_quant(subject: Subject, handler: QuantHandler) -> None:
    """The Q/DQ file, run by onnxruntime, is at most one step from the fake-quant model."""
    if handler.to_onnx is None:
        raise Skipped("it has no `to_onnx`")
    if importlib.util.find_spec("onnxruntime") is None:
        raise Skipped("onnxruntime is not installed")
    for example in _examples(handler):
        op, x = example.op, images(example.shape)
        prepared = prepared_for_eval(alone(example), x)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "qat.onnx"
            export_qat_onnx(prepared, path)
            session = open_session(path.read_bytes(), 1)
        (real,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        with torch.no_grad():
            expected = prepared.model(x).numpy()
        step = lower(prepared, (x,)).outputs[0].scale.max() if handler.lower else 1e-4
        steps = np.abs(real - expected).max() / step
        assert steps < 1.01, f"`{op}` as ONNX differs from its fake-quant by {steps:.2f} steps"


def lower_equals_the_reference(subject: Subject, handler: QuantHandler) -> None:
    """Each example with a `reference` is annotated, lowered and interpreted. The result is within
    one step of its scale of what the reference computes from the real numbers of the input
    integers."""
    if handler.lower is None:
        raise Skipped("it has no integer form")
    known = [(e, e.reference) for e in _examples(handler) if e.reference is not None]
    if not known:
        raise Skipped("its examples have no reference")
    for example, reference in known:
        x = torch.randn(example.shape, generator=torch.Generator().manual_seed(3))
        torch.manual_seed(0)
        program = lower(prepared_for_eval(nn.Sequential(example.build()).eval(), x), (x,))
        ints = program.quantize(x.numpy())
        (integers,) = interpret(program, *ints)
        (port,) = program.outputs
        real = program.inputs[0].dequantize(ints[0]).astype(np.float64)
        wanted = reference(real)
        low, high = (level * port.scale.max() for level in RANGE[port.dtype])
        steps = np.abs(port.dequantize(integers) - np.clip(wanted, low, high)) / port.scale.max()
        apart = f"`{example.op}`: its integers are {steps.max():.2f} steps from its reference"
        assert steps.max() < 1.01, apart


def _calls(example: Example) -> tuple[GraphContext, list[fx.Node]]:
    """The graph of an example and its calls of the op; there must be one."""
    net = alone(example)
    graph = trace(net, (images(example.shape),))
    context = GraphContext(net, graph)
    calls = [node for node in graph.nodes if context.op(node) == example.op]
    op = example.op
    assert calls, f"the example of `{op}` has no such op: is `canonical_op` set on its class?"
    return context, calls


def _examples(handler: QuantHandler) -> tuple[Example, ...]:
    of_handler = examples(handler)
    if not of_handler:
        raise Skipped(_NO_EXAMPLE)
    return of_handler
