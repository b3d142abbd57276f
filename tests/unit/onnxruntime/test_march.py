"""The march `onnxruntime`: an artifact that any CPU runs."""

import sys

import numpy as np
import pytest

from qatspec.api import Artifact, DiagnosticError, compile as compile_program, interpret, write_perf
from qatspec.program import Program, ProgramBuilder, digest

pytest.importorskip("onnxruntime")


@pytest.fixture
def program() -> Program:
    rng = np.random.default_rng(0)
    builder = ProgramBuilder("net")
    x = builder.input("image", "int8", (3, 9, 9), 1 / 128)
    weight = builder.const("w", "int8", rng.integers(-128, 128, (8, 3, 3, 3)))
    window = {"stride": (2, 2), "padding": (1, 1, 1, 1), "dilation": (1, 1), "groups": 1}
    sums = builder.emit("conv", [x, weight], name="conv", scale=0.01, **window)
    scale = builder.const("m", "int64", rng.integers(1000, 30000, 8))
    shift = builder.const("s", "int64", np.full(8, 20))
    bounds = {"low": 0, "high": 127, "axis": 1, "rounding": "half_up", "dtype": "int8"}
    small = builder.emit("requant", [sums, scale, shift], name="y", scale=0.1, **bounds)
    return builder.finish([small, sums])


@pytest.mark.parametrize("opt", ["exact", "fast"])
def test_it_runs_from_its_file(program, opt, tmp_path):
    file = tmp_path / "net.bin"
    compile_program(program, "onnxruntime", opt=opt).save(file)
    loaded = Artifact.load(file)
    ints = [np.random.default_rng(1).integers(-128, 128, (4, 3, 9, 9), np.int8)]
    got, expected = loaded.run(*ints), interpret(program, *ints)
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == b.dtype
        if opt == "exact":
            assert np.array_equal(a, b)
        else:
            assert np.abs(a.astype(int) - b).max() <= 1


def test_only_exact_promises_equality(program):
    opts = ("exact", "fast")
    manifests = {o: compile_program(program, "onnxruntime", opt=o).manifest for o in opts}
    assert {m["program"] for m in manifests.values()} == {digest(program)}
    assert (manifests["exact"]["bit_exact"], manifests["exact"]["max_lsb"]) == (True, 0)
    assert (manifests["fast"]["bit_exact"], manifests["fast"]["max_lsb"]) == (False, None)


def test_fast_is_the_default(program):
    manifest = compile_program(program, "onnxruntime").manifest
    assert manifest["options"] == {"opt": "fast", "batch": None}


def test_the_same_program_gives_the_same_bytes(program):
    first, second = (compile_program(program, "onnxruntime").to_bytes() for _ in range(2))
    assert first == second


def test_no_model_of_time(program, tmp_path):
    assert write_perf(compile_program(program, "onnxruntime"), tmp_path / "net") == ()


@pytest.mark.parametrize("opt", ["exact", "fast"])
@pytest.mark.parametrize("data", [None, b"", b"no onnx at all"])
def test_damaged_sections(program, opt, data):
    good = compile_program(program, "onnxruntime", opt=opt)
    sections = {} if data is None else {"model.onnx": data}
    bad = Artifact(
        march="onnxruntime",
        inputs=good.inputs,
        outputs=good.outputs,
        manifest=good.manifest,
        sections=sections,
    )
    with pytest.raises(DiagnosticError) as caught:
        bad.run(np.zeros((1, 3, 9, 9), np.int8))
    assert caught.value.diagnostics[0].code == "QS811"


def test_a_bin_of_another_march_is_refused(program):
    other = compile_program(program, "bayes")
    wrong = Artifact(
        march="onnxruntime",
        inputs=other.inputs,
        outputs=other.outputs,
        manifest=other.manifest,
        sections=other.sections,
    )
    with pytest.raises(DiagnosticError, match="QS811"):
        wrong.run(np.zeros((1, 3, 9, 9), np.int8))


def test_without_onnxruntime_the_pip_line_is_given(program, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DiagnosticError) as caught:
        compile_program(program, "onnxruntime")
    (found,) = caught.value.diagnostics
    assert found.code == "QS804"
    assert found.help == "pip install 'qatspec[onnxruntime]'"
