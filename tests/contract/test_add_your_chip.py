"""The march of docs/add_your_chip.md: its code is written down as a package, compiled with and
run."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from qatspec.api import Artifact, lower
from qatspec.testing.kit import CHECKS, conform
from tests.contract.test_documentation import BLOCK

PAGE = Path(__file__).parents[2] / "docs" / "add_your_chip.md"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The page's Python as `my_chip`: the first block is the plugin, the others the march."""
    pytest.importorskip("onnxruntime")
    blocks = [m[3] for m in BLOCK.finditer(PAGE.read_text("utf-8")) if m[2] == "python"]
    folder = tmp_path / "my_chip"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "plugin.py").write_text(blocks[0])
    (folder / "march.py").write_text("\n\n".join(blocks[1:]))
    forget()  # another page has an example of this name
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_chip"]:
        del sys.modules[name]


def test_the_march_of_the_page_compiles_and_runs(package, settled, tmp_path):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 12, 12)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 4, 1))
    program = lower(settled(net, x, march="onnxruntime", qconfig="onnxruntime_qat"), (x,))
    (march,) = importlib.import_module("my_chip.plugin").qatspec_marches()
    assert all(march.supports(op, program).ok for op in program.ops)
    made = march.compile(program, {"batch": 2})
    made.save(tmp_path / "net.bin")
    ints = program.quantize(torch.randn(5, 3, 12, 12).numpy())
    for wanted, found in zip(
        program.run(*ints), march.run(Artifact.load(tmp_path / "net.bin"), ints), strict=True
    ):
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        assert np.abs(found.astype(np.int64) - wanted).max() <= 255 * 8
    measured = march.measure(program, made, [program.quantize(x[:1].numpy())], None)
    assert measured["manifest"]["exactness"]["images"] == 1


@pytest.mark.slow
def test_the_kit_passes_the_march_of_the_page(package):
    checks = [check for check in CHECKS if check.name == "march_supports_what_it_compiles"]
    (outcome,) = conform(importlib.import_module("my_chip.plugin"), checks)
    assert outcome.status == "passed", outcome.reason
