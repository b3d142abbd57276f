"""Models of several inputs as a plugin's file and a spec: any number of pictures, vectors, points,
tokens and masks, each with a branch of its own."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

#: kind -> (how the spec states it, the branch's modules, the branch's code, the array of a sample)
KINDS = {
    "picture": (
        "{{size: [12, 16]{scale}}}",
        "nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU())",
        "self.{0}({0}_).mean((2, 3))",
        "normal(label, 0.3, (3, 12, 16))",
    ),
    "gray": (
        "{{size: [8, 8], format: gray, channels: 1, mean: 100, std: 50{scale}}}",
        "nn.Conv2d(1, 4, 3, padding=1)",
        "self.{0}({0}_).relu().mean((2, 3))",
        "normal(label, 0.3, (1, 8, 8))",
    ),
    "vector": (
        "{{shape: [5]{scale}}}",
        "nn.Linear(5, 4)",
        "self.{0}({0}_).relu()",
        "normal(label, 0.3, (5,))",
    ),
    "points": (
        "{{shape: [3, 10]{scale}}}",
        "nn.Sequential(nn.Conv1d(3, 4, 1), nn.BatchNorm1d(4), nn.ReLU())",
        "self.{0}({0}_).mean(2)",
        "normal(label, 0.3, (3, 10))",
    ),
    "rows": (
        "{{shape: [6, 4]{scale}}}",
        "nn.Linear(4, 4)",
        "self.{0}({0}_).relu().mean(1)",
        "normal(label, 0.3, (6, 4))",
    ),
    "tokens": (
        "{{shape: [7], dtype: int64, range: [0, 8]}}",
        "nn.Embedding(9, 4)",
        "self.{0}({0}_).mean(1)",
        "integers(0, 9, (7,))",
    ),
    "words": (
        "{{shape: [6], dtype: int32, range: [0, 8]}}",
        "nn.ModuleDict(dict(e=nn.Embedding(9, 6), c=nn.Conv1d(6, 4, 3, padding=1)))",
        "self.{0}['c'](self.{0}['e']({0}_).transpose(1, 2)).relu().mean(2)",
        "integers(0, 9, (6,))",
    ),
    "flags": (
        "{{shape: [4], dtype: int32, range: [0, 1]}}",
        "nn.Linear(4, 4)",
        "self.{0}({0}_.float())",
        "integers(0, 2, (4,))",
    ),
}
#: Names of arguments, some of which torch.fx renames.
NAMES = ("rgb", "input", "x", "depth", "range", "ids", "speed")

PLUGIN = """
import numpy as np
import torch
from torch import nn
from qatspec.api import DatasetDef, ModelDef, Sample, hookimpl
from qatspec_vision.classifier import Classification


class Net(Classification):
    def __init__(self):
        super().__init__()
{modules}
        self.head_of_all = nn.Linear({width}, 2)

    def forward(self, {arguments}):
{aliases}
        parts = [{branches}]
        return self.head_of_all(torch.cat(parts, 1))


class Data:
    classes = ("a", "b")

    def __len__(self):
        return 8

    def sample(self, index, rng):
        label = index % 2
        given = {{{arrays}}}
        image = {{k: v if v.dtype.kind == "i" else v.astype("float32") for k, v in given.items()}}
        return Sample(image, {{"label": np.array(label)}}, {{"id": index}})

    def evaluate(self, predictions):
        hits = sum(meta["id"] % 2 == int(found["label"]) for meta, found in predictions)
        return {{"top1": 100 * hits / len(predictions)}}


@hookimpl
def qatspec_models():
    return [ModelDef(name="{type}", summary="s", params={{"type": "object"}},
                     build=lambda p: Net())]


@hookimpl
def qatspec_datasets():
    return [DatasetDef(name="{type}", summary="s", params={{"type": "object"}},
                       open=lambda p, c, b: Data(), fingerprint=lambda p, b: "1", metric="top1")]
"""
SPEC = """
qatspec: 1
name: several
march: {march}
plugins: [plug.py]
model:
  type: {type}
  inputs:
{inputs}
data:
  train: {{type: {type}, batch_size: 4}}
  val: {{type: {type}, batch_size: 3}}
quantize: {{prepare: horizon}}
stages:
  float: {{trainer: {{epochs: 1, optimizer: {{type: sgd, lr: 0.05}}}}}}
  calibration: {{trainer: {{steps: 2}}, qconfig: horizon_calibration}}
  qat: {{trainer: {{epochs: 1, optimizer: {{type: sgd, lr: 0.001}}}}, qconfig: horizon_calibrated}}
  convert: {{}}
  compile: {{{options}}}
"""


@dataclass(frozen=True)
class Case:
    """inputs: (name, kind, fixed scale or None) in the order of forward. type: of the model and the
    data set; the files of one process register different ones."""

    type: str
    inputs: tuple[tuple[str, str, float | None], ...]
    march: str = "bayes"
    options: str = ""

    def write(self, folder: Path) -> Path:
        """Write plug.py and spec.yaml; the spec states the inputs in another order than forward."""
        entries = [(n, *KINDS[k], s) for n, k, s in self.inputs]
        plugin = PLUGIN.format(
            type=self.type,
            modules="\n".join(f"        self.{n} = {m}" for n, _, m, _, _, _ in entries),
            width=4 * len(entries),
            arguments=", ".join(n for n, *_ in entries),
            aliases="\n".join(f"        {n}_ = {n}" for n, *_ in entries),
            branches=", ".join(code.format(n) for n, _, _, code, _, _ in entries),
            arrays=", ".join(f"{n!r}: rng.{array}" for n, _, _, _, array, _ in entries),
        )
        stated = [
            f"    {n}: " + form.format(scale=f", scale: {s}" if s else "")
            for n, form, _, _, _, s in reversed(entries)
        ]
        (folder / "plug.py").write_text(plugin)
        spec = SPEC.format(
            type=self.type,
            march=self.march,
            inputs="\n".join(stated),
            options=self.options,
        )
        (folder / "spec.yaml").write_text(spec)
        return folder / "spec.yaml"


def drawn(seed: int, march: str) -> Case:
    """A case with one to four inputs."""
    rng = random.Random(seed)
    names = rng.sample(NAMES, rng.randint(1, 4))
    kinds = [rng.choice(list(KINDS)) for _ in names]
    if all(kind in ("tokens", "flags") for kind in kinds):
        kinds[0] = "vector"
    scales = [rng.choice([None, 0.03125]) if k not in _INTEGERS else None for k in kinds]
    return Case(f"several_{seed}", tuple(zip(names, kinds, scales, strict=True)), march)


_INTEGERS = ("tokens", "words", "flags")


def sample_of(module: Any, index: int = 0) -> dict[str, np.ndarray]:
    """The arrays of an example of the plugin's data set, by name."""
    return dict(module.Data().sample(index, np.random.default_rng(index)).image)
