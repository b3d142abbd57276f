"""A torch model of one's own through all stages by YAML alone: from a file beside the spec, and
from a library that is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
pytest.importorskip("onnxruntime")

SPEC = """
qatspec: 1
name: own
march: bayes
{plugins}
model:
  type: {type}
  params: {params}
  input: {{size: [32, 32], scale: 0.0078125}}
data:
  train:
    type: imagefolder_classification
    params: &set {{root: ., size: 32, made_up: 6}}
    batch_size: 3
  val: {{type: imagefolder_classification, params: *set, batch_size: 3}}
quantize: {{prepare: horizon, quantize_output: false}}
stages:
  float: {{trainer: {{epochs: 1, optimizer: {{type: sgd, lr: 0.01}}}}}}
  calibration: {{trainer: {{steps: 2}}, qconfig: horizon_calibration}}
  qat: {{trainer: {{epochs: 1, optimizer: {{type: sgd, lr: 0.001}}}}, qconfig: horizon_calibrated}}
  convert: {{}}
  compile: {{}}
"""

NET = """
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, num_classes)

    def forward(self, x):
        return self.fc(self.bn(self.conv(x)).relu().mean((2, 3)))
"""

#: What a person writes beside the spec.
PLUGIN = (
    NET
    + """

from qatspec.api import ModelDef, hookimpl
from qatspec_vision.classifier import Classifier

PARAMS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"num_classes": {"type": "integer", "description": "Number of classes."}},
    "required": ["num_classes"],
}


@hookimpl
def qatspec_models():
    build = lambda params: Classifier(Net(**params))
    return [ModelDef(name="my_net", summary="a net of my own", params=PARAMS, build=build)]
"""
)

#: What stands for an installed torchvision.
TORCHVISION = NET + "\n\ndef get_model(name, weights, num_classes):\n    return Net(num_classes)\n"


def qatspec(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from qatspec.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "run", "own.yaml", "--workdir", "work", *arguments],
        cwd=folder, text=True, capture_output=True, timeout=300, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder / "site")},
    )  # fmt: skip


def check(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert done.returncode == 0, done.stderr
    summary = json.loads((folder / "work" / "summary.json").read_text())
    assert [s["status"] for s in summary["steps"]] == ["run"] * 5
    assert {"top1", "top5"} == set(summary["metrics"]["integer"])
    assert (folder / "work/compile/own.bin").is_file()


def test_a_file_beside_the_spec(tmp_path: Path) -> None:
    (tmp_path / "my_net.py").write_text(PLUGIN)
    spec = SPEC.format(plugins="plugins: [./my_net.py]", type="my_net", params="{num_classes: 3}")
    (tmp_path / "own.yaml").write_text(spec)
    refused = qatspec(tmp_path)
    assert refused.returncode == 1
    assert "QS006" in refused.stderr
    check(qatspec(tmp_path, "--allow-code"), tmp_path)


def test_a_model_of_an_installed_library(tmp_path: Path) -> None:
    site = tmp_path / "site" / "torchvision"
    site.mkdir(parents=True)
    (site / "__init__.py").write_text("")
    (site / "models.py").write_text(TORCHVISION)
    spec = SPEC.format(plugins="", type="torchvision", params="{name: resnet18, num_classes: 3}")
    (tmp_path / "own.yaml").write_text(spec)
    check(qatspec(tmp_path), tmp_path)
