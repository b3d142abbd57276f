"""Checks of quant handlers and fuse patterns."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from qatspec.graph.context import GraphContext
from qatspec.graph.trace import trace
from qatspec.lower import lower
from qatspec.onnx import export_qat_onnx
from qatspec.prepare import prepare
from qatspec.testing.nets import Chain, images, layer, settled
from qatspec.testing.subject import Skipped, Subject
from qatspec.types import Annotation, FusePattern, QConfig, QuantHandler

_NO_EXAMPLE = "the kit has no layer for it: give its handler an `example`"


def annotate_is_pure(subject: Subject, handler: QuantHandler) -> None:
    """annotate gives an Annotation, the same one again, and leaves the graph alone."""
    for op, example in _examples(handler).items():
        net = Chain(example).eval()
        graph = trace(net, (images(),))
        context = GraphContext(net, graph)
        found = [node for node in graph.nodes if context.op(node) == op]
        assert found, f"the example of `{op}` has no such op: is `canonical_op` set on its class?"
        before = str(graph)
        first, second = (handler.annotate(found[-1], context) for _ in range(2))
        assert isinstance(first, Annotation), f"annotate of `{op}` gave {first!r}"
        assert first == second, f"annotate of `{op}` says something else the second time"
        assert str(graph) == before, f"annotate of `{op}` changes the graph"


def lower_equals_the_fake_quant(subject: Subject, handler: QuantHandler) -> None:
    """The integers are at most one step from the fake-quant model (contracts 16)."""
    if handler.lower is None:
        raise Skipped("it has no integer form")
    for op, example in _examples(handler).items():
        prepared = settled(Chain(example))
        if any(d.op == op and d.reason.startswith("float") for d in prepared.decisions.values()):
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
        prepared = settled(Chain(example))
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


def fusing_keeps_eval_numerics(subject: Subject, pattern: FusePattern) -> None:
    """With every fake-quant off, the fused net computes what the original did; and the chain does
    fuse."""
    tried = 0
    for ops in _chains(pattern):
        parts = [layer(op) for op in ops]
        if any(part is None for part in parts):
            continue
        tried += 1
        net = Chain(*(part for part in parts if part is not None)).eval()
        prepared = prepare(copy.deepcopy(net), (images(),), qconfig=QConfig())
        with torch.no_grad():
            off = (prepared.model(images()) - net(images())).abs().max()
        assert off < 1e-4, f"{' '.join(ops)}: eval changes by {off:.2g}"
        longest = max(len(d.group) for d in prepared.decisions.values())
        assert longest >= len(ops), f"{' '.join(ops)} does not fuse"
    if not tried:
        raise Skipped(_NO_EXAMPLE)


def _chains(pattern: FusePattern) -> list[tuple[str, ...]]:
    """Chains that try each alternative once, the first ones elsewhere."""
    choices = [part.split("|") for part in pattern.pattern]
    known = [[op for op in ops if layer(op) is not None] for ops in choices]
    if not all(known):
        return []
    first = tuple(ops[0] for ops in known)
    chains = [(*first[:i], op, *first[i + 1 :]) for i, ops in enumerate(known) for op in ops]
    return [c for c in dict.fromkeys(chains) if not ("linear" in c and "batch_norm2d" in c)]


def _examples(handler: QuantHandler) -> dict[str, nn.Module]:
    """The handler's ops that there is a layer for."""
    if handler.example is not None:
        torch.manual_seed(0)
        return {handler.ops[0]: handler.example()}
    found = {op: made for op in handler.ops if (made := layer(op)) and op != "batch_norm2d"}
    if not found:
        raise Skipped(_NO_EXAMPLE)
    return found
