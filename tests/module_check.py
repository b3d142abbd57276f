"""One random module through prepare, calibration, lowering and the exports: equal, or refused by a
diagnostic."""

from __future__ import annotations

import contextlib
import io
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, fx

from qatspec.diag import DiagnosticError
from qatspec.export import OnnxRunner, export_qat_onnx, to_onnx
from qatspec.export.qdq import tree_of
from qatspec.graph.deploy import Deployment, deploy
from qatspec.ir import unflatten
from qatspec.lower.pipeline import lower_layers
from qatspec.prepare import prepare, set_stage
from qatspec.referee.interpreter import interpret_all
from tests.random_modules import random_module

#: Steps between a layer's fake-quants and its integers, given equal inputs.
STEP = 1.02
#: Ops with arithmetic of their own: rounded intermediate results.
OWN = ("layer_norm", "group_norm", "instance_norm", "softmax", "div", "interpolate")
OWN_STEPS = 8.02
#: Share of the norm by which fake-quants may move the outputs of a small random net.
FAR = 0.35


class Wrong(Exception):
    """Two forms of a module differ."""


def check(seed: int, folder: Path) -> dict[str, Any]:
    """What came of one module: "equal", "refused" (with code and stage), "wrong" or "crashed"."""
    stage = ["write"]
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            integers = _check(seed, folder, stage)
    except DiagnosticError as error:
        first = error.diagnostics[0]
        said = {"code": first.code, "said": first.message}
        return {"seed": seed, "result": "refused", "stage": stage[0], **said}
    except Wrong as wrong:
        return {"seed": seed, "result": "wrong", "stage": stage[0], "said": str(wrong)}
    except Exception as problem:  # noqa: BLE001 - whatever goes wrong is what this looks for
        where = traceback.extract_tb(problem.__traceback__)[-1]
        said = f"{type(problem).__name__} {problem} ({Path(where.filename).name}:{where.lineno})"
        return {"seed": seed, "result": "crashed", "stage": stage[0], "said": said[:400]}
    return {"seed": seed, "result": "equal", "stage": "", "integers": integers}


@torch.no_grad()
def _check(seed: int, folder: Path, stage: list[str]) -> int:
    net, x = random_module(seed)
    real = _flat(net(x.clone()))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    stage[0] = "prepare"
    prepared = prepare(net, (x,), qconfig="horizon_qat")
    _same_numbers(before, net.state_dict())
    stage[0] = "calibration"
    for images in (x, torch.cat([x, x.flip(0) * 0.9])):
        try:
            wanted = net(images.clone())
        except RuntimeError:  # the net itself holds for its example's batch alone
            continue
        found = prepared.model(images.clone())
        _close(_flat(found), _flat(wanted), "calibration against float")
    stage[0] = "another size"
    with contextlib.suppress(DiagnosticError):  # a decision by a size says so
        _another_size(prepared.model, net, x)
    prepared = prepare(net, (x,), qconfig="horizon_qat")
    prepared.model(x.clone())
    set_stage(prepared, "qat")
    set_stage(prepared, "eval")
    stage[0] = "fake-quant"
    faked = _flat(prepared.model(x.clone()))
    for a, b in zip(faked, real, strict=True):
        if _distance(a, b) > FAR:
            raise Wrong(f"fake-quants move an output by {_distance(a, b):.3f} of its norm")
    stage[0] = "lower"
    deployment = deploy(prepared, (x,))
    program, layers = lower_layers(prepared, (x,), deployment=deployment)
    integers = program.quantize(x.numpy())
    values = interpret_all(program, *integers)
    referee = [values[port.name] for port in program.outputs]
    stage[0] = "executor"
    _equal(program.run(*integers), referee)
    stage[0] = "onnxruntime"
    to_onnx(program, folder / "converted.onnx")
    _equal(OnnxRunner.load(folder / "converted.onnx", threads=1).run(*integers), referee)
    stage[0] = "layers"
    Layers(deployment, layers, values).run(x.clone())
    stage[0] = "outputs"
    found = [torch.from_numpy(v) for v in program.dequantize(referee)]
    scales = _nested(program.tree, [port.scale for port in program.outputs])
    _near(_nested(program.tree, found), faked, scales)
    stage[0] = "export"
    export_qat_onnx(prepared, folder / "qat.onnx", (x,), deployment=deployment)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(folder / "qat.onnx", options)
    exported = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    stage[0] = "exported"
    tree = tree_of(onnx.load(folder / "qat.onnx"))
    _near(_nested(tree, [torch.from_numpy(v) for v in exported]), faked, scales)
    return sum(r.size for r in referee)


def _another_size(model: Any, net: Any, x: Tensor) -> None:
    size = (x.shape[2] + 3, x.shape[3] + 1)
    other = torch.randn(1, x.shape[1], *size, generator=torch.Generator())
    try:
        want = _flat(net(other.clone()))
    except Exception:  # noqa: BLE001 - the net itself holds for its size alone
        return
    _close(_flat(model(other)), want, "another size against float")


class Layers(fx.Interpreter):
    """Runs the fake-quant model, each layer on the integers of the layers before it, and compares
    each fake-quant with the Program's value."""

    def __init__(self, deployment: Deployment, layers: Any, values: dict[str, np.ndarray]) -> None:
        root = deployment.prepared.model
        super().__init__(fx.GraphModule(root, deployment.graph), garbage_collect_values=False)
        self.layers = {layer.call: layer for layer in layers}
        self.values = values

    def run_node(self, n: fx.Node) -> Any:
        found = super().run_node(n)
        layer = self.layers.get(n.name)
        if layer is None or not isinstance(found, Tensor):
            return found
        scale = float(np.max(layer.scale))
        integers = self.values[layer.value].astype(np.float64)
        along = [1] * integers.ndim
        if layer.axis is not None:  # an int32 tail: a scale for each channel
            along[layer.axis] = -1
        real = torch.from_numpy(integers * layer.scale.reshape(along))
        mine = layer.batch_dim.in_front(found, layer.batch_dim.shared(real.shape[1:]))
        if mine.shape != real.shape:
            raise Wrong(f"{n.name}: {tuple(mine.shape)} against {tuple(real.shape)}")
        steps = float((mine - real).abs().max()) / scale if real.numel() else 0.0
        bound = OWN_STEPS if any(op in str(layer.origin.op) for op in OWN) else STEP
        if steps > bound:
            raise Wrong(f"{n.name} ({layer.origin.op}) is off by {steps:.2f} steps")
        places = torch.arange(found.numel()).reshape(found.shape)
        places = layer.batch_dim.in_front(places, layer.batch_dim.shared(real.shape[1:]))
        equal = torch.empty(found.numel(), dtype=found.dtype)
        equal[places.reshape(-1)] = real.reshape(-1).to(found.dtype)
        return equal.reshape(found.shape)


def _flat(tree: Any) -> list[Any]:
    """The leaves of what forward returns; dicts by their sorted keys."""
    if isinstance(tree, dict):
        return [leaf for key in sorted(tree) for leaf in _flat(tree[key])]
    if isinstance(tree, (list, tuple)):
        return [leaf for branch in tree for leaf in _flat(branch)]
    return [tree]


def _nested(tree: Any, flat: Any) -> list[Any]:
    return _flat(unflatten(tree, flat))


def _distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm().clamp(min=1e-3))


def _same_numbers(before: dict[str, Tensor], after: dict[str, Tensor]) -> None:
    if before.keys() != after.keys() or not all(
        torch.equal(v, after[k]) for k, v in before.items()
    ):
        raise Wrong("prepare changed the model that it was given")


def _close(found: list[Tensor], wanted: list[Tensor], what: str) -> None:
    if len(found) != len(wanted):
        raise Wrong(f"{what}: {len(found)} outputs for {len(wanted)}")
    for a, b in zip(found, wanted, strict=True):
        if a.shape != b.shape or not torch.allclose(a, b, rtol=1e-3, atol=1e-4):
            raise Wrong(f"{what}: {tuple(a.shape)}, {tuple(b.shape)}, {_distance(a, b):.4f}")


def _equal(found: Any, wanted: Any) -> None:
    if not all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True)):
        raise Wrong("other integers than the referee's")


def _near(found: list[Tensor], wanted: list[Tensor], scales: list[Any]) -> None:
    """Whole nets: a tie of one layer moves what comes behind it."""
    for a, b, scale in zip(found, wanted, scales, strict=True):
        if a.shape != b.shape:
            raise Wrong(f"output {tuple(a.shape)} for {tuple(b.shape)}")
        steps = float((a - b).abs().max()) / float(np.max(scale))
        if steps > 3.02 and _distance(a, b) > 0.05:
            raise Wrong(f"output off by {steps:.1f} steps, {_distance(a, b):.3f} of its norm")
