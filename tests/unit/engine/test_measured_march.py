"""A march whose files promise no equality: they are judged and measured themselves."""

from __future__ import annotations

import json
from importlib.resources import files

import jsonschema
import pytest

from qatspec.program import Artifact
from tests.unit.engine.test_execute import STAGES, statuses

pytest.importorskip("onnxruntime")
ONNXRUNTIME = ("march=onnxruntime", "stages.compile={}")


def test_the_file_itself_is_judged_and_measured(copy):
    first = copy.run(*ONNXRUNTIME)
    schema = json.loads((files("qatspec_schemas") / "summary-1.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(first)
    assert first["metrics"]["bin"].keys() == first["metrics"]["integer"].keys()
    (figures,) = first["performance"]
    assert figures["source"] == "measured" and figures["march"] == "onnxruntime"
    kinds = {a["path"]: a["kind"] for a in first["artifacts"]}
    assert kinds["compile/toy-onnxruntime.onnx"] == "runtime_onnx"
    perf = json.loads((copy.workdir / "compile/toy.perf.json").read_text())["summary"]
    assert perf["float32 latency (ms)"] > 0
    manifest = Artifact.load(copy.workdir / "compile/toy.bin").manifest
    assert manifest["exactness"]["images"] == 4 and manifest["exactness"]["layers"] > 0
    exact = {a["path"]: a["max_lsb"] for a in first["artifacts"]}
    assert manifest["max_lsb"] == exact["compile/toy.bin"]
    onnx = (copy.workdir / "compile/toy-onnxruntime.onnx").read_bytes()
    assert onnx == Artifact.load(copy.workdir / "compile/toy.bin").sections["model.onnx"]

    assert statuses(copy.run(*ONNXRUNTIME)) == [(name, "cached") for name in STAGES]
    again = copy.run(*ONNXRUNTIME, "data.val.params.count=12")
    assert ("compile", "judged") in statuses(again)
    assert set(again["metrics"]["bin"]) == set(first["metrics"]["bin"])


@pytest.mark.parametrize("options", ["{rt_input_type: rgb}", "{batch: 2}", "{opt: exact}"])
def test_it_is_measured_whatever_it_is_fed(copy, options):
    summary = copy.run("march=onnxruntime", f"stages.compile={options}")
    (figures,) = summary["performance"]
    assert figures["source"] == "measured" and figures["fps"] > 0
    assert set(summary["metrics"]["bin"]) == set(summary["metrics"]["integer"])
    perf = json.loads((copy.workdir / "compile/toy.perf.json").read_text())["summary"]
    assert perf["batch"] == (2 if "batch" in options else 1)


def test_a_march_that_promises_equality_is_judged_by_the_program(finished):
    assert "bin" not in finished.summary["metrics"]


@pytest.mark.parametrize(
    ("march", "package", "more"),
    [("litert", "ai_edge_litert", ()), ("ethos_u55", "ethosu", ("toy-ethos_u55_vela.tflite",))],
)
def test_a_tflite_file_lies_beside_the_binary(copy, march, package, more):
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    pytest.importorskip(package, reason=f"{package} is not installed")
    summary = copy.run(f"march={march}", "stages.compile={}", "quantize.quantize_output=true")
    kinds = {a["path"]: a["kind"] for a in summary["artifacts"]}
    for name in (f"toy-{march}.tflite", *more):
        assert kinds[f"compile/{name}"] == "runtime_tflite"
    sections = Artifact.load(copy.workdir / "compile/toy.bin").sections
    written = (copy.workdir / f"compile/toy-{march}.tflite").read_bytes()
    assert written == sections["model.tflite"]
    (figures,) = summary["performance"]
    assert figures["march"] == march and figures["fps"] > 0
    exact = {a["path"]: a["bit_exact"] for a in summary["artifacts"] if "bit_exact" in a}
    assert exact["compile/toy.bin"] is True
