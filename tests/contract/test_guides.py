"""The guides of docs/: their sections of YAML are valid parts of a spec, and their code runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from qatspec.cli.main import run
from qatspec.registry import registry
from qatspec.source.load import SMALLEST
from qatspec.spec import load

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(yaml|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
GUIDES = (
    "accuracy", "diverges", "file_differs", "from_brevitas", "from_hat", "from_torch_fx",
    "from_ultralytics", "refused", "too_slow",
)  # fmt: skip
STAGES = """
stages:
  float: {trainer: {epochs: 1, optimizer: {type: sgd, lr: 0.1}}}
  calibration: {trainer: {steps: 1}, qconfig: horizon_calibration}
  qat: {trainer: {epochs: 1, optimizer: {type: sgd, lr: 0.1}}, qconfig: horizon_calibrated}
"""


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / f"{page}.md").read_text("utf-8")
    return [code for kind, code in BLOCK.findall(text) if kind == language]


SECTIONS = [
    pytest.param(code, id=f"{page}-{number}")
    for page in GUIDES
    for number, code in enumerate(blocks(page, "yaml"))
    if set(yaml.safe_load(code)) <= {"quantize", "stages", "data", "model"}
]


@pytest.mark.parametrize("code", SECTIONS)
def test_a_section_is_a_valid_part_of_a_spec(tmp_path, code):
    base = yaml.safe_load(SMALLEST.partition("stages:")[0] + STAGES)
    for role in yaml.safe_load(code).get("data", {}):
        base["data"].pop(role, None)
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
    changed = tmp_path / "changed.yaml"
    changed.write_text(f"extends: base.yaml\n{code}")
    load(changed)


def test_the_code_of_the_torch_page_runs(tmp_path, monkeypatch):
    import onnx

    monkeypatch.chdir(tmp_path)
    (code,) = blocks("from_torch_fx", "python")
    exec(code, {})
    assert onnx.load("model.onnx").graph.node


@pytest.mark.slow
def test_the_network_of_the_page_passes_check_and_smoke(tmp_path, monkeypatch, capsys):
    """check prepares, converts and compiles it, and no data is read; smoke has made-up pictures."""
    monkeypatch.chdir(tmp_path)
    (code,), (spec,) = blocks("own_network", "python"), blocks("own_network", "yaml")
    Path("my_model.py").write_text(code)
    Path("mine.yaml").write_text(spec)
    registry.cache_clear()
    assert run(["check", "mine.yaml", "--allow-code"]) == 0, capsys.readouterr().err
    assert "fake-quants" in capsys.readouterr().out
    assert run(["run", "--smoke", "mine.yaml", "--allow-code"]) == 0, capsys.readouterr().err
    registry.cache_clear()
