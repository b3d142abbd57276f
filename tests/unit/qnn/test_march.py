"""The march `qnn`: one context node, which the vendor's simulator runs."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from qatspec.api import Artifact, DiagnosticError, compile as compile_program, lower, write_perf
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
def program(request, settled) -> Program:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 12, 12)
    return lower(settled(Net(), x, march="qnn", qconfig=request.param), (x,))


def images(count):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, 12, 12, generator=generator).numpy()


@pytest.mark.parametrize(("batch", "compiled"), [(1, True), (2, True), (1, False)])
def test_it_runs_from_its_file(qnn, program, batch, compiled, tmp_path):
    made = compile_program(program, "qnn", batch=batch, compiled=compiled)
    assert set(made.sections) == {"context.onnx" if compiled else "model.onnx"}
    made.save(tmp_path / "net.bin")
    ints = program.quantize(images(5))
    (got,), (wanted,) = Artifact.load(tmp_path / "net.bin").run(*ints), program.run(*ints)
    assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
    step = 127 * 16  # of the sums, what one integer before them can add
    half = np.abs(wanted).max() / 1024  # sums are half precision
    assert np.abs(got.astype(np.int64) - wanted).max() <= 3 * step + half


def test_it_is_one_context_node(qnn, program):
    made = compile_program(program, "qnn")
    graph = onnx.load_from_string(made.sections["context.onnx"]).graph
    assert Counter(node.op_type for node in graph.node) == {"EPContext": 1}
    manifest = made.manifest
    assert manifest["program"] == digest(program)
    assert manifest["onnxruntime-qnn"] == qnn.__version__
    assert (manifest["bit_exact"], manifest["max_lsb"]) == (False, None)


def test_the_same_program_gives_the_same_bytes(qnn, program):
    first, second = (compile_program(program, "qnn").to_bytes() for _ in range(2))
    assert first == second


def test_the_chip_is_chosen_by_its_number(qnn, program):
    first, second = (compile_program(program, "qnn", soc_model=n) for n in (43, 69))
    assert first.sections != second.sections


def test_its_outputs_are_compared(qnn, program, tmp_path):
    made = compile_program(program, "qnn")
    assert write_perf(made, tmp_path / "net") == ()  # nothing is modelled
    inputs = [program.quantize(image[None]) for image in images(2)]
    found = registry().march("qnn").measure(program, made, inputs, None)
    assert set(found) == {"manifest"}  # the simulator's time is not the chip's
    assert found["manifest"]["exactness"]["images"] == 2


@pytest.mark.parametrize("data", [None, b"", b"no onnx at all"])
def test_damaged_sections(qnn, program, data):
    made = compile_program(program, "qnn", compiled=False)
    bad = replace(made, sections={} if data is None else {"context.onnx": data})
    with pytest.raises(DiagnosticError, match="QS811"):
        bad.run(np.zeros((1, 3, 12, 12), np.int8))


def test_without_the_package_the_pip_line_is_given(program, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime_qnn", None)
    with pytest.raises(DiagnosticError) as caught:
        compile_program(program, "qnn")
    (found,) = caught.value.diagnostics
    assert found.code == "QS804"
    assert found.help == "pip install 'qatspec[qnn]'"


def test_numbers_beyond_half_precision_are_refused(qnn, settled):
    """Its simulator returns wrong numbers for them without an error."""
    x = torch.randn(1, 3, 8, 8)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    with torch.no_grad():
        net[0].weight *= 1e6
    program = lower(settled(net, x), (x,))
    with pytest.raises(DiagnosticError) as caught:
        compile_program(program, "qnn")
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "QS801" and "half precision" in diagnostic.message
    compile_program(program, "qnn", compiled=False)  # a trial, whose ranges say nothing
    compile_program(lower(settled(net, x, quantize_output=True), (x,)), "qnn")
