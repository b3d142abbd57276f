"""What `check` foresees of a spec and what happens: dtype x opset x march x net."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from qatspec.cli.options import context
from qatspec.diag import DiagnosticError
from qatspec.engine import run
from qatspec.plan import resolve
from qatspec.registry import registry
from qatspec.spec import Spec
from qatspec.stages.rehearsal import Foreseen, Refusal, foresee
from tests.layers import LAYERS
from tests.zoo.zoo import net, nets

PLUGIN = """
import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree
from qatspec.api import DatasetDef, ModelDef, Sample, hookimpl
from tests.layers import LAYERS
from tests.nets import Everything
from tests.zoo.zoo import net


def build(name):
    if name in LAYERS:
        return nn.Sequential(nn.Conv2d(4, 4, 1), LAYERS[name][1]())
    if name == "everything":
        return Everything()
    return net(name).build(**net(name).tiny)


class Net(nn.Module):
    def __init__(self, name):
        super().__init__()
        self.net = build(name)

    def forward(self, x):
        return self.net(x)

    def loss(self, outputs, targets):
        return {"size": sum(x.float().square().mean() for x in pytree.tree_leaves(outputs))}

    def predict(self, outputs):
        return [{"none": torch.zeros(1)} for _ in pytree.tree_leaves(outputs)[0]]


class Noise:
    classes = ("noise",)

    def __init__(self, shape):
        self.shape = shape

    def __len__(self):
        return 4

    def sample(self, index, rng):
        rng = np.random.default_rng(index)
        return Sample(rng.uniform(-1, 1, self.shape).astype(np.float32), {}, {})

    def evaluate(self, predictions):
        return {"count": float(len(predictions))}


def schema(**properties):
    return {"type": "object", "additionalProperties": False, "properties": properties}


@hookimpl
def qatspec_models():
    name = {"type": "string", "description": "of a layer or a net", "default": "relu"}
    yield ModelDef(
        name="named_net", summary="a layer, or a net of the zoo", params=schema(net=name),
        build=lambda params: Net(params["net"]),
    )


@hookimpl
def qatspec_datasets():
    shape = {"type": "array", "items": {"type": "integer"}, "description": "(channels, ...)"}
    yield DatasetDef(
        name="noise", summary="noise", params=schema(shape=shape),
        open=lambda params, *_: Noise(params["shape"]),
        fingerprint=lambda *_: "noise", metric="count",
    )
"""
SPEC = """
qatspec: 1
name: foreseen
march: {march}
plugins: [./plugin.py]
model: {{type: named_net, params: {{net: "{net}"}}, input: {{size: {size}, channels: {channels}}}}}
data:
  train: &data {{type: noise, batch_size: 2, params: {{shape: {shape}}}}}
  val: *data
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
PICTURES = tuple(sorted(name for name, (rank, _) in LAYERS.items() if rank == 4))
#: nets that are no single layer, with maps as inputs
NETS = ("everything", *(n.name for n in nets() if len(n.tiny_size) == 2))

Case = dict[str, object]


def cases(names: tuple[str, ...], count: int, seed: int) -> list[Case]:
    """So many cases, drawn from a fixed seed: every march with every pair of dtypes in turn."""
    draw = random.Random(seed)
    pairs = [(m, a, w) for m in MARCHES for a in DTYPES for w in DTYPES]
    return [
        {
            "march": march, "activation": activation, "weight": weight,
            "opset": draw.choice(OPSETS), "net": draw.choice(names),
            "output": draw.choice(("true", "false")),
        }
        for march, activation, weight in (pairs[i % len(pairs)] for i in range(count))
    ]  # fmt: skip


def write(folder: Path, case: Case) -> Path:
    """Write the spec of a case and its plugin."""
    (folder / "plugin.py").write_text(PLUGIN)
    opset, name = case["opset"], str(case["net"])
    channels, size = 4, (9, 12)
    if name == "everything":
        channels, size = 3, (32, 32)
    elif name not in LAYERS:
        channels, size = net(name).channels, net(name).tiny_size  # type: ignore[assignment]
    text = SPEC.format(
        **case, channels=channels, size=list(size), shape=[channels, *size],
        convert="{}" if opset is None else f"{{opset: {opset}}}",
    )  # fmt: skip
    (folder / "spec.yaml").write_text(text)
    registry.cache_clear()
    return folder / "spec.yaml"


def foreseen(spec: Spec, folder: Path) -> Foreseen:
    """What is refused without training, and what may be."""
    with spec.document.located():
        return foresee(replace(context(spec, folder / "none", device="cpu"), seed=0))


def happens(spec: Spec, workdir: Path) -> list[Refusal]:
    """Run stage after stage, each by its name, so that none looks at a later one."""
    plan = resolve(spec)
    for step in plan.steps:
        try:
            run(plan, workdir, step=step.name, device="cpu")
        except DiagnosticError as error:  # noqa: PERF203
            return [Refusal(step.name, d) for d in error.diagnostics]
    return []


def difference(found: Foreseen, late: list[Refusal]) -> str:
    """What of a run was not foreseen, or did not happen; "" where they agree. What a later stage
    would refuse too may be foreseen besides. Whether sums fit int32 depends on the trained weights:
    QS704 must at least have been told as a doubt."""
    early = found.refused
    if _codes(late) == {"QS704"} and "QS708" in {d.code for d in found.warnings}:
        return ""
    first = late[0].stage if late else None
    of_stage = [r for r in early if r.stage == first] if late else early
    if _codes(of_stage) == _codes(late) and (not early or early[0].stage == first):
        return ""
    return f"foreseen {_told(early)}, but there came {_told(late)}"


def _codes(found: list[Refusal]) -> set[str]:
    return {r.diagnostic.code for r in found}


def _told(found: list[Refusal]) -> str:
    return "; ".join(f"{r.stage} {r.diagnostic.code} {r.diagnostic.message}" for r in found) or "-"
