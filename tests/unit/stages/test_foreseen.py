"""What is foreseen is what happens: dtype x opset x march x op, tried and then really run."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from qatspec.cli.options import context
from qatspec.diag import DiagnosticError
from qatspec.engine import run
from qatspec.plan import resolve
from qatspec.registry import registry
from qatspec.spec import load
from qatspec.stages.rehearsal import Refusal, refusals
from tests.layers import LAYERS

PLUGIN = """
import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree
from qatspec.api import DatasetDef, ModelDef, Sample, hookimpl
from tests.layers import LAYERS


class Net(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.stem, self.layer = nn.Conv2d(4, 4, 1), LAYERS[layer][1]()

    def forward(self, x):
        return self.layer(self.stem(x))

    def loss(self, outputs, targets):
        return {"size": sum(x.float().square().mean() for x in pytree.tree_leaves(outputs))}

    def predict(self, outputs):
        return [{"none": torch.zeros(1)} for _ in pytree.tree_leaves(outputs)[0]]


class Noise:
    classes = ("noise",)

    def __len__(self):
        return 4

    def sample(self, index, rng):
        rng = np.random.default_rng(index)
        return Sample(rng.uniform(-1, 1, (4, 9, 12)).astype(np.float32), {}, {})

    def evaluate(self, predictions):
        return {"count": float(len(predictions))}


def schema(**properties):
    return {"type": "object", "additionalProperties": False, "properties": properties}


@hookimpl
def qatspec_models():
    layer = {"type": "string", "description": "name in tests.layers", "default": "relu"}
    yield ModelDef(
        name="layer_net", summary="one layer", params=schema(layer=layer),
        build=lambda params: Net(params["layer"]),
    )


@hookimpl
def qatspec_datasets():
    yield DatasetDef(
        name="noise", summary="noise", params=schema(), open=lambda *_: Noise(),
        fingerprint=lambda *_: "noise", metric="count",
    )
"""
SPEC = """
qatspec: 1
name: foreseen
march: {march}
plugins: [./plugin.py]
model: {{type: layer_net, params: {{layer: "{layer}"}}, input: {{size: [9, 12], channels: 4}}}}
data: {{train: {{type: noise, batch_size: 2}}, val: {{type: noise, batch_size: 2}}}}
quantize: {{quantize_output: {output}}}
stages:
  float: {{trainer: {{steps: 1, optimizer: {{type: sgd, lr: 1e-6}}}}}}
  calibration: {{trainer: {{steps: 1}}, qconfig: &q {{"": {{activation: {{dtype: {activation}}}, \
weight: {{dtype: {weight}, ch_axis: 0, averaging_constant: 1}}}}}}}}
  qat: {{trainer: {{steps: 1, optimizer: {{type: sgd, lr: 1e-6}}}}, qconfig: *q}}
  convert: {convert}
  compile: {{}}
"""
DTYPES, MARCHES = ("qint4", "qint8", "qint16"), ("bernoulli2", "bayes", "onnxruntime")
OPSETS = (None, 17, 18, 20, 21)
PICTURES = sorted(name for name, (rank, _) in LAYERS.items() if rank == 4)


def _cases() -> list[dict[str, object]]:
    """Every march with every pair of dtypes once, over ops and opsets drawn from a fixed seed."""
    draw = random.Random(11)
    return [
        {
            "march": march, "activation": activation, "weight": weight,
            "opset": draw.choice(OPSETS), "layer": draw.choice(PICTURES),
            "output": draw.choice(("true", "false")),
        }
        for march in MARCHES for activation in DTYPES for weight in DTYPES
    ]  # fmt: skip


def _spec(folder: Path, case: dict[str, object]):
    (folder / "plugin.py").write_text(PLUGIN)
    opset = case["opset"]
    text = SPEC.format(**case, convert="{}" if opset is None else f"{{opset: {opset}}}")
    (folder / "spec.yaml").write_text(text)
    registry.cache_clear()
    return load(folder / "spec.yaml", allow_code=True)


def _happens(spec, workdir: Path) -> list[Refusal]:
    """Run stage after stage, each by its name, so that none looks at a later one."""
    plan = resolve(spec)
    for step in plan.steps:
        try:
            run(plan, workdir, step=step.name, device="cpu")
        except DiagnosticError as error:  # noqa: PERF203
            return [Refusal(step.name, d) for d in error.diagnostics]
    return []


def _codes(found: list[Refusal], stage: str) -> set[str]:
    return {r.diagnostic.code for r in found if r.stage == stage}


@pytest.mark.parametrize("case", _cases(), ids=lambda case: "-".join(map(str, case.values())))
def test_what_is_foreseen_happens(tmp_path, case):
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    try:
        spec = _spec(tmp_path, case)
    except DiagnosticError as error:  # known without the model
        assert {d.code for d in error.diagnostics} <= {"QS604", "QS720"}
        text = (tmp_path / "spec.yaml").read_text().replace(f"opset: {case['opset']}", "opset: 21")
        (tmp_path / "spec.yaml").write_text(text)
        load(tmp_path / "spec.yaml", allow_code=True)  # the way out
        return
    with spec.document.located():
        foreseen = refusals(replace(context(spec, tmp_path / "none", device="cpu"), seed=0))
    happens = _happens(spec, tmp_path / "work")
    assert bool(foreseen) == bool(happens)
    if happens:  # what a later stage would refuse too may be foreseen besides
        stage = happens[0].stage
        assert foreseen[0].stage == stage
        assert _codes(foreseen, stage) == _codes(happens, stage)
