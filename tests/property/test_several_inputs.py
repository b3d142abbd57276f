"""Models of one to four inputs, of any kinds, from the spec to the compiled file: every form gives
the Program's integers, and every input reaches the port of its name."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch

from qatspec.cli.options import context as surroundings
from qatspec.engine import run
from qatspec.export import OnnxRunner
from qatspec.graph.arguments import port_name
from qatspec.plan import resolve
from qatspec.program import Artifact, load_program
from qatspec.spec import load
from qatspec.stages.models import open_model
from tests.several_inputs import drawn

MARCHES = ("onnxruntime", "bernoulli2", "bayes")
pytestmark = pytest.mark.slow
pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("seed", range(9))
def test_every_stage(seed, tmp_path):
    case = drawn(seed, MARCHES[seed % 3])
    spec = load(case.write(tmp_path), allow_code=True)
    folder = tmp_path / "work"
    summary = run(resolve(spec), folder, device="cpu")
    exact = [f["bit_exact"] for f in summary["artifacts"] if f.get("bit_exact") is not None]
    assert len(exact) == 3 and all(exact), case

    context = surroundings(spec, folder, device="cpu")
    assert list(context.inputs) == [name for name, *_ in case.inputs]  # the order of forward
    given = next(iter(context.loader("val").ordered())).inputs
    with torch.no_grad():
        faked = open_model(context, folder / "qat/qat-checkpoint-best.pth.tar")(*given)
    program = load_program(folder / "convert/several.program")
    results = [
        open_model(context, folder / path)(*given)
        for path in (
            "convert/several.program", "convert/several-converted.onnx", "compile/several.bin",
        )
    ]  # fmt: skip
    assert torch.equal(results[0], results[1])
    if case.march != "onnxruntime":
        assert torch.equal(results[0], results[2])
    (scale,) = program.outputs[0].scale
    assert (results[0] - faked).abs().max() <= 1.01 * scale, case

    integers = ("tokens", "words", "flags")
    ports = {port.name: port for port in program.inputs}
    for name, kind, fixed in case.inputs:
        if kind not in integers and not set(integers) & {k for _, k, _ in case.inputs}:
            assert port_name(name) in ports
        if fixed is not None:
            assert ports[port_name(name)].scale.tolist() == [fixed]
    artifact = Artifact.load(folder / "compile/several.bin")
    converted = OnnxRunner.load(folder / "convert/several-converted.onnx")
    assert program.image == converted.image == artifact.image
    assert set(program.image["inputs"]) == {name for name, *_ in case.inputs}
    file = onnx.load(folder / "convert/several-qat.onnx")
    metadata = {p.key: p.value for p in file.metadata_props}
    assert json.loads(metadata["qatspec.qat"])["image"] == program.image
    for name, kind, _ in case.inputs:
        assert (f"image.{name}" in metadata) == (kind in ("picture", "gray"))
    assert np.isfinite(results[0].numpy()).all()
