"""The march `openvino`: a compiled model, its measured time and its distance to the Program."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from qatspec.api import (
    Artifact,
    DiagnosticError,
    compile as compile_program,
    export_qat_onnx,
    lower,
    write_perf,
)
from qatspec.export.float32 import without_quantization
from qatspec.export.runner import saturates
from qatspec.program import Program, digest
from qatspec.registry import registry


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.pool, self.tail = nn.MaxPool2d(3, 2, 1), nn.Conv2d(16, 5, 1)

    def forward(self, x):
        x = torch.relu(self.a(x))
        return self.tail(self.pool(torch.relu(self.b(x) + x)))


@pytest.fixture(params=["horizon_qat", "onnxruntime_qat"])
def prepared(request, settled):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 12, 12)
    return settled(Net(), x, march="openvino", qconfig=request.param), x


@pytest.fixture
def program(prepared) -> Program:
    prepared, x = prepared
    return lower(prepared, (x,))


@pytest.fixture
def openvino():
    return pytest.importorskip("openvino", reason="OpenVINO is not installed")


def images(count):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, 12, 12, generator=generator).numpy()


@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize("compiled", [True, False])
def test_it_runs_from_its_file(openvino, program, batch, compiled, tmp_path):
    made = compile_program(program, "openvino", batch=batch, compiled=compiled)
    assert ("compiled.blob" in made.sections) == compiled
    made.save(tmp_path / "net.bin")
    ints = program.quantize(images(5))
    (got,), (wanted,) = Artifact.load(tmp_path / "net.bin").run(*ints), program.run(*ints)
    assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
    if saturates():
        pytest.skip("OpenVINO's kernels saturate on a CPU without VNNI, as onnxruntime's do")
    step = 127 * 16  # of the sums, what one integer before them can add
    assert np.abs(got.astype(np.int64) - wanted).max() <= 3 * step


def test_what_its_manifest_states(openvino, program):
    manifest = compile_program(program, "openvino", compiled=False).manifest
    assert manifest["program"] == digest(program)
    assert (manifest["bit_exact"], manifest["max_lsb"]) == (False, None)
    assert manifest["compiled for"]["openvino"] == openvino.__version__


def test_the_same_program_gives_the_same_bytes(openvino, program):
    first, second = (compile_program(program, "openvino").to_bytes() for _ in range(2))
    assert first == second


def test_a_model_compiled_elsewhere_is_compiled_again(openvino, program):
    """The compiled model of another version is not read: here it is no model at all."""
    made = compile_program(program, "openvino")
    target = {**made.manifest["compiled for"], "openvino": "2020.1"}
    other = replace(
        made,
        manifest={**made.manifest, "compiled for": target},
        sections={**made.sections, "compiled.blob": b"of another version"},
    )
    ints = program.quantize(images(1))
    assert np.array_equal(other.run(*ints)[0], made.run(*ints)[0])


@pytest.mark.parametrize("data", [None, b"", b"no onnx at all"])
def test_damaged_sections(openvino, program, data):
    made = compile_program(program, "openvino", compiled=False)
    bad = replace(made, sections={} if data is None else {"model.onnx": data})
    with pytest.raises(DiagnosticError, match="QS811"):
        bad.run(np.zeros((1, 3, 12, 12), np.int8))


def test_a_device_that_is_not_there(openvino, program, monkeypatch):
    monkeypatch.setattr(openvino.Core, "available_devices", ["CPU"])
    with pytest.raises(DiagnosticError) as caught:
        compile_program(program, "openvino", device="NPU")
    (found,) = caught.value.diagnostics
    assert found.code == "QS803" and "NPU" in found.message
    assert found.help == "write `device: CPU`"


def test_without_openvino_the_pip_line_is_given(program, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(DiagnosticError) as caught:
        compile_program(program, "openvino")
    (found,) = caught.value.diagnostics
    assert found.code == "QS804"
    assert found.help == "pip install 'qatspec[openvino]'"


def test_what_is_measured(openvino, prepared, tmp_path):
    import onnx

    prepared, x = prepared
    program = lower(prepared, (x,))
    export_qat_onnx(prepared, tmp_path / "qat.onnx", (x,))
    bare = without_quantization(onnx.load(tmp_path / "qat.onnx")).SerializeToString()
    made = compile_program(program, "openvino")
    assert write_perf(made, tmp_path / "net") == ()  # nothing is modelled
    inputs = [program.quantize(image[None]) for image in images(2)]
    found = registry().march("openvino").measure(program, made, inputs, bare)
    perf = json.loads(json.dumps(found["perf"]))
    assert perf["source"] == "measured" and perf["threads"] == perf["batch"] == 1
    assert perf["float32 latency (ms)"] > 0 and perf["float32 CPU time / CPU time"] > 0
    assert perf["optimized graph"]
    exactness = found["manifest"]["exactness"]
    assert (exactness["layers"], exactness["images"]) == (2, 2)  # the residual is no layer
    if saturates():
        assert exactness["max_lsb of a layer"] > 1, "it is not hidden"
        return
    assert exactness["max_lsb of a layer"] <= 1
    assert exactness["share of equal integers"] > 0.99
