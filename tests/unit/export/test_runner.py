"""OnnxRunner: foreign files, misfits, and the CPU's self-test."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from qatspec.diag import DiagnosticError
from qatspec.export import OnnxRunner, to_onnx
from qatspec.export.runner import self_test
from qatspec.onnxgraph.seal import demand_intact
from qatspec.program import ProgramBuilder

pytest.importorskip("onnxruntime")


@pytest.fixture
def program():
    builder = ProgramBuilder("p", "bayes")
    x = builder.input("x", "int8", (2, 3, 3), 0.1)
    return builder.finish([builder.emit("clamp", [x], name="y", low=-3, high=5, scale=[0.1])])


def test_metadata_travels(program, tmp_path):
    to_onnx(program, tmp_path / "a.onnx")
    runner = OnnxRunner.load(tmp_path / "a.onnx")
    assert (runner.march, runner.tree) == ("bayes", 0)
    told = {p.key: p.value for p in onnx.load(tmp_path / "a.onnx").metadata_props}
    assert told["march"] == "bayes"
    assert told["input.0"] == "x: int8 NCHW, scale 0.100000001"
    assert runner.inputs[0].scale == program.inputs[0].scale
    x = np.arange(-9, 9, dtype=np.int8).reshape(1, 2, 3, 3)
    assert np.array_equal(runner.run(x)[0], np.clip(x, -3, 5))
    with pytest.raises(DiagnosticError) as caught:
        runner.run(x.astype(np.float32))
    assert caught.value.diagnostics[0].code == "QS712"


def test_foreign_files(program, tmp_path):
    path = tmp_path / "a.onnx"
    to_onnx(program, path)
    whole = path.read_bytes()
    model = onnx.load_from_string(whole)
    del model.metadata_props[:]
    for content in (b"", b"PK\3\4", whole[: len(whole) // 2], model.SerializeToString()):
        path.write_bytes(content)
        with pytest.raises(DiagnosticError) as caught:
            OnnxRunner.load(path)
        assert caught.value.diagnostics[0].code == "QS721"
    with pytest.raises(DiagnosticError):
        OnnxRunner.load(tmp_path / "missing.onnx")


def test_every_changed_byte_is_noticed(program, tmp_path):
    path = tmp_path / "a.onnx"
    to_onnx(program, path)
    whole = path.read_bytes()
    onnx.checker.check_model(onnx.load_from_string(whole))
    for place in range(len(whole)):
        with pytest.raises(ValueError, match="sha256"):
            demand_intact(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    for content in (whole + b"\0", whole[:-1], whole[1:], whole + whole):
        path.write_bytes(content)
        with pytest.raises(DiagnosticError, match="sha256"):
            OnnxRunner.load(path)


def test_another_tool_writes_the_file_anew(program, tmp_path):
    path = tmp_path / "a.onnx"
    to_onnx(program, path)
    model = onnx.load(path)
    model.graph.initializer[0].raw_data = bytes(len(model.graph.initializer[0].raw_data))
    onnx.save(model, path)
    with pytest.raises(DiagnosticError, match="sha256 does not match"):
        OnnxRunner.load(path)


def test_old_opset_is_refused(program, tmp_path):
    with pytest.raises(DiagnosticError) as caught:
        to_onnx(program, tmp_path / "a.onnx", opset=13)
    assert caught.value.diagnostics[0].code == "QS720"


def test_an_inexact_cpu_is_named(monkeypatch):
    """A runtime whose sums saturate at 16 bits, as u8s8 kernels without VNNI do."""
    from qatspec.export import runner

    real = runner.open_session

    class Saturating:
        def __init__(self, data, threads):
            self.session = real(data, threads)

        def run(self, names, feeds):
            return [np.clip(r, -(2**15), 2**15 - 1) for r in self.session.run(names, feeds)]

    monkeypatch.setattr(runner, "open_session", Saturating)
    self_test.cache_clear()
    with pytest.raises(DiagnosticError) as caught:
        self_test()
    assert caught.value.diagnostics[0].code == "QS722"
    monkeypatch.undo()
    self_test.cache_clear()
    self_test()
