from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from qatspec.engine import run as run_plan
from qatspec.plan import resolve
from qatspec.registry import registry
from qatspec.spec import load

HERE = Path(__file__).parent

SPEC = """\
qatspec: 1
name: toy
march: bayes
seed: 3
plugins: [./toy_plugin.py]
vars: {lr: 0.05, count: 32}
model:
  type: toy_net
  input: {size: [16, 16], channels: 3, format: rgb, mean: 128, std: 128, scale: 0.0078125}
data:
  train: {type: toy_corners, params: {count: "${vars.count}"}, batch_size: 8}
  val: {type: toy_corners, batch_size: 8}
quantize: {prepare: horizon, quantize_output: false}
stages:
  float:
    trainer:
      epochs: 3
      optimizer: {type: sgd, lr: "${vars.lr}", momentum: 0.9}
      ema: 0.9
      checkpoint_steps: 3
  calibration: {trainer: {steps: 4}, qconfig: horizon_calibration}
  qat:
    trainer: {epochs: 1, optimizer: {type: sgd, lr: 0.001}, checkpoint_steps: 3}
    qconfig: horizon_calibrated
  convert: {}
  compile: {opt: O3}
"""


class Project:
    """A spec with its plugin in a folder, and a work directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spec = folder / "toy.yaml"
        self.workdir = folder / "work"
        self.spec.write_text(SPEC)
        shutil.copy(HERE / "toy_plugin.py", folder)
        self.events: list = []

    def plan(self, *overrides: str):
        registry.cache_clear()  # projects bring the same plugin from different folders
        return resolve(load(self.spec, overrides, allow_code=True))

    def run(self, *overrides: str, workdir: str = "work", on_event=None, **options):
        self.events = []

        def listen(event) -> None:
            self.events.append(event)
            if on_event:
                on_event(event)

        return run_plan(
            self.plan(*overrides), self.folder / workdir, on_event=listen, device="cpu", **options
        )

    def kinds(self, step: str) -> list[str]:
        return [e.kind for e in self.events if e.step == step and e.kind.startswith("step_")]


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A project that has been run once; treat as read-only."""
    project = Project(tmp_path_factory.mktemp("finished"))
    project.summary = project.run()
    return project


@pytest.fixture
def copy(finished, tmp_path):
    """A finished project of one's own, at the same spec."""
    shutil.copytree(finished.folder, tmp_path / "project")
    return Project(tmp_path / "project")
