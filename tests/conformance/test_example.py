"""The third-party example, loaded from its folder: conforms, imports qatspec.api alone, is short,
and runs its spec through all stages. test_installed_packages.py installs it as well."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qatspec.cli.main import run
from qatspec.program import load_program
from qatspec.registry import registry
from qatspec.testing import PluginConformance

EXAMPLE = Path(__file__).parents[2] / "plugins" / "example_third_party"
SOURCES = sorted(EXAMPLE.rglob("*.py"))


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    """The example as an installed plugin of this process; gives its plugin module."""
    info = tmp_path / "qatspec_hard_mish-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: qatspec-hard-mish\nVersion: 0.1.0\n"
    )
    (info / "entry_points.txt").write_text("[qatspec]\nhard_mish = hard_mish.plugin\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLE / "src")
    importlib.invalidate_caches()
    registry.cache_clear()
    yield importlib.import_module("hard_mish.plugin")
    registry.cache_clear()
    for name in [n for n in sys.modules if n.partition(".")[0] == "hard_mish"]:
        del sys.modules[name]


class TestExample(PluginConformance):
    @pytest.fixture
    def plugin(self, loaded):
        return loaded


def lint_imports(package: Path) -> subprocess.CompletedProcess:
    """The contract in the example's own pyproject.toml, on a copy of its source."""
    return subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=package, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(package / "src")},
    )  # fmt: skip


def test_it_imports_nothing_of_qatspec_but_the_api(tmp_path):
    copy = shutil.copytree(EXAMPLE, tmp_path / "example")
    assert lint_imports(copy).returncode == 0
    with (copy / "src/hard_mish/op.py").open("a") as file:
        file.write("from qatspec.types import Annotation as Again\n")
    said = lint_imports(copy)
    assert said.returncode == 1
    assert "hard_mish.op -> qatspec.types" in said.stdout


def test_it_is_short():
    assert sum(len(source.read_text().splitlines()) for source in SOURCES) < 200


def test_its_spec_runs_through_all_stages(loaded, tmp_path, capsys):
    work = tmp_path / "run"
    spec = str(EXAMPLE / "specs/stripes.yaml")
    short = ["--set", "stages.float.trainer.epochs=1", "--workdir", str(work)]
    assert run(["run", spec, *short]) == 0, capsys.readouterr()
    program = load_program(work / "convert/stripes.program")
    kinds = [op.kind for op in program.ops]
    assert kinds.count("lut") == 2, "each hard_mish is one table"
    last = kinds.index("lut", kinds.index("lut") + 1)
    assert kinds[last + 1] == "clamp", "the fused ReLU6 is a bound on the table's grid"
    assert "four_sigma" in (work / "calibration/calibration-decisions.json").read_text()

    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(work / "convert/stripes-qat.onnx")
    images = np.random.default_rng(0).normal(0, 0.5, (2, 3, 16, 16)).astype(np.float32)
    (real,) = session.run(None, {session.get_inputs()[0].name: images})
    (exact,) = program.dequantize(program.run(*program.quantize(images)))
    assert np.abs(real - exact).max() < 0.1 * np.abs(real).max()
