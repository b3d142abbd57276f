"""The marches of Ethos-U: Vela compiles the file; its estimate is perf.json, and is called so."""

from __future__ import annotations

import importlib.metadata

import numpy as np
import pytest
import torch
from qatspec_litert import vela as process_of_vela
from torch import nn

from qatspec.api import (
    Artifact,
    DiagnosticError,
    compile as compile_program,
    interpret,
    lower,
    prepare,
    registry,
    set_stage,
)

MARCHES = ("ethos_u55", "ethos_u65", "ethos_u85")


@pytest.fixture(scope="module")
def program():
    """Convolutions, a pool and a residual: all of it runs on the NPU."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
            self.pool, self.head = nn.MaxPool2d(2), nn.Conv2d(8, 4, 1)

        def forward(self, x):
            x = torch.relu(self.a(x))
            return self.head(self.pool(torch.relu(self.b(x) + x)))

    torch.manual_seed(0)
    x = torch.randn(1, 3, 32, 32)
    prepared = prepare(Net(), (x,), qconfig="horizon_qat", prepare="horizon", march="ethos_u55")
    with torch.no_grad():
        set_stage(prepared, "calibration")
        prepared.model(x)
    set_stage(prepared, "qat")
    set_stage(prepared, "eval")
    return lower(prepared, (x,))


@pytest.fixture
def vela():
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    pytest.importorskip("ethosu", reason="ethos-u-vela is not installed")


@pytest.mark.parametrize("march", MARCHES)
def test_vela_compiles_it_for_the_npu_alone(program, march, vela):
    artifact = Artifact.from_bytes(compile_program(program, march).to_bytes())
    assert artifact.manifest["vela"]["operators"] == {"ethos-u": 1}
    x = np.random.default_rng(0).integers(-128, 128, (2, 3, 32, 32)).astype(np.int8)
    np.testing.assert_array_equal(artifact.run(x)[0], interpret(program, x)[0])
    perf = registry().march(march).measure(program, artifact, [[x]], None)["perf"]
    assert perf["source"] == "Vela's estimate" and "not measured" in perf["note"]
    milliseconds = 1000 * perf["cycles"]["total"] / perf["clock (Hz)"]
    assert perf["latency (ms)"] == pytest.approx(milliseconds, abs=1e-4)
    assert perf["MACs"] >= 16 * 16 * 8 * 27 and sum(perf["memory (KiB)"].values()) > 0


def test_the_size_of_the_accelerator_counts(program, vela):
    small, large = (compile_program(program, "ethos_u55", macs=macs) for macs in (32, 256))
    cycles = [a.manifest["vela"]["cycles"]["cycles_npu"] for a in (small, large)]
    assert cycles[0] > cycles[1]


def test_a_memory_mode_that_does_not_fit_is_refused_in_velas_words(program, vela):
    with pytest.raises(DiagnosticError, match=r"Vela does not compile.*Invalid") as caught:
        compile_program(program, "ethos_u55", memory="Dedicated_Sram")
    assert caught.value.diagnostics[0].code == "QS803"


def test_without_vela(program, monkeypatch):
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(DiagnosticError, match="ethos-u-vela, which is not installed") as caught:
        compile_program(program, "ethos_u55")
    assert caught.value.diagnostics[0].code == "QS804"
    assert "qatspec[ethos]" in caught.value.diagnostics[0].help


def test_one_process_compiles_one_file_after_another(program, vela):
    """The same bytes each time, also behind a refusal and behind the end of the process."""
    first = compile_program(program, "ethos_u55").to_bytes()
    with pytest.raises(DiagnosticError):
        compile_program(program, "ethos_u55", memory="Dedicated_Sram")
    process = process_of_vela._process
    assert compile_program(program, "ethos_u55").to_bytes() == first
    assert process_of_vela._process is process
    process.kill()
    process.wait()
    assert compile_program(program, "ethos_u55").to_bytes() == first
