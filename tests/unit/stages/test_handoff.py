"""The hand-off to a vendor: a float network in opset 11 that computes with the trained weights."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch
import yaml
from onnx import numpy_helper
from torch import nn

from qatspec.diag import DiagnosticError
from qatspec.export import handoff as export
from qatspec.export.handoff import float_network, reference
from qatspec.export.opset11 import NotInOpset11, in_opset_11
from qatspec.graph.deploy import deploy
from qatspec.quant.fake_quant import FakeQuantize

SET = "stages.convert={handoff: horizon}"
onnxruntime = pytest.importorskip("onnxruntime", reason="the float file is run by onnxruntime")


@pytest.fixture(scope="module")
def handed(finished, tmp_path_factory):
    """The files of convert of the toy project."""
    import shutil

    from tests.conftest import Project

    folder = tmp_path_factory.mktemp("handed") / "project"
    shutil.copytree(finished.folder, folder)
    project = Project(folder)
    project.run(SET, "march=bernoulli2", "stages.compile={opt: ddr, rt_input_type: nv12}")
    return project.workdir / "convert"


def only(folder, end):
    (path,) = folder.glob(f"*{end}")
    return path


def test_the_float_file_is_opset_11_with_weights_on_their_grid(handed):
    model = onnx.load(only(handed, "-float.onnx"))
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 11)]
    onnx.checker.check_model(model, full_check=True)
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & {"QuantizeLinear", "DequantizeLinear", "BatchNormalization"}
    shape = model.graph.input[0].type.tensor_type.shape
    assert all(d.dim_value > 0 for d in shape.dim) and shape.dim[0].dim_value == 1
    scales = json.loads(only(handed, "-scales.json").read_text())
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    assert scales["weights"].keys() <= constants.keys() and scales["weights"]
    for name, record in scales["weights"].items():
        weight = constants[name].astype(np.float64)
        along = [1] * weight.ndim
        along[record["axis"] or 0] = -1
        steps = weight / np.array(record["scales"], np.float32).reshape(along)
        assert np.abs(steps - np.rint(steps)).max() < 1e-4 and np.abs(steps).max() < 128.5
    tensors = {n for node in model.graph.node for n in (*node.input, *node.output)}
    assert scales["activations"].keys() <= tensors and scales["activations"]


def test_it_was_run_and_the_distance_is_within_the_bound(handed):
    scales = json.loads(only(handed, "-scales.json").read_text())
    assert scales["images"] > 0 and 0 <= scales["apart"] <= scales["bound"] == 1e-4


def test_the_configuration_has_what_the_spec_says(handed):
    told = yaml.safe_load(only(handed, "-mapper.yaml").read_text())
    assert set(told) == {
        "model_parameters", "input_parameters", "calibration_parameters", "compiler_parameters",
    }  # fmt: skip
    model, inputs = told["model_parameters"], told["input_parameters"]
    assert model["march"] == "bernoulli2" and (handed / model["onnx_model"]).is_file()
    assert inputs["input_type_rt"] == "nv12" and inputs["norm_type"] == "data_mean_and_scale"
    port = onnx.load(only(handed, "-float.onnx")).graph.input[0]
    assert inputs["input_name"] == port.name
    assert told["compiler_parameters"]["compile_mode"] == "bandwidth"


def test_mean_and_scale_are_those_of_the_picture():
    from qatspec.registry import registry

    mapper = registry().march("bayes_e").handoffs["horizon"]
    facts = {
        "name": "n", "march": "bayes_e", "onnx": "n-float.onnx", "input": "x", "size": [32, 64],
        "format": "rgb", "mean": [123.675, 116.28, 103.53], "std": [128.0] * 3, "fed": "nv12",
        "layout": "NHWC", "opt": "O2",
    }  # fmt: skip
    told = mapper(facts)
    assert told["model_parameters"]["march"] == "bayes-e"
    assert told["input_parameters"]["mean_value"] == "123.675 116.28 103.53"
    assert told["input_parameters"]["scale_value"] == "0.0078125"
    assert told["input_parameters"]["input_type_train"] == "rgb"
    assert told["compiler_parameters"]["optimize_level"] == "O2"


class Net(nn.Module):
    def __init__(self, step):
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6())
        self.b = nn.Conv2d(8, 4, 1)
        self.step = step

    def forward(self, x):
        return self.b(self.step(self.a(x)))


STEPS = {
    "relu6": lambda x: x,
    "pool": lambda x: nn.functional.max_pool2d(x, 3, 2, 1),
    "mean": lambda x: x * x.mean((2, 3), keepdim=True),
    "resize": lambda x: nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear"),
    "chunks": lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
    "softmax": lambda x: x.softmax(3),
    "pad": lambda x: nn.functional.pad(x, (1, 2, 0, 1)),
    "hardswish": nn.functional.hardswish,
    "silu": nn.functional.silu,
}


def handed_on(settled, step):
    example = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    prepared = settled(Net(step), example)
    deployment = deploy(prepared, (example,))
    model, scales = float_network(deployment, name="net", batch=1)
    return deployment, example, model, scales


def outputs(model, example):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {session.get_inputs()[0].name: example.numpy()})


@pytest.mark.parametrize("name", STEPS)
def test_nets_compute_in_opset_11_what_torch_computes(settled, name):
    deployment, example, model, _ = handed_on(settled, STEPS[name])
    for mine, theirs in zip(reference(deployment, [example]), outputs(model, example), strict=True):
        assert np.abs(mine - theirs).max() <= export.BOUND * np.abs(mine).max()


def test_the_reference_has_the_quantized_weights_and_no_rounded_activations(settled):
    """Seeded faults: float weights, and rounded activations, are both further away."""
    deployment, example, model, _ = handed_on(settled, STEPS["relu6"])
    (there,) = outputs(model, example)
    plain = deployment.prepared.model(example).detach().numpy()
    assert np.abs(plain - there).max() > 10 * export.BOUND * np.abs(there).max()
    for module in deployment.prepared.model.modules():
        if isinstance(module, FakeQuantize) and module.scale.numel() > 1:
            module.scale.data.mul_(3)
    (coarser,) = reference(deployment, [example])
    assert np.abs(coarser - there).max() > 10 * export.BOUND * np.abs(there).max()


@pytest.mark.parametrize(
    "nodes, what",
    [
        ([onnx.helper.make_node("LayerNormalization", ["x", "w"], ["y"])], "LayerNormalization"),
        ([onnx.helper.make_node("Softmax", ["x"], ["y"], axis=1)], "along the last dim"),
        ([onnx.helper.make_node("ReduceSum", ["x", "axes"], ["y"])], "constant axes"),
    ],
)
def test_what_opset_11_does_not_have_is_refused(nodes, what):
    value = onnx.helper.make_tensor_value_info
    inputs = [value("x", 1, [1, 4, 8]), value("axes", 7, [1])]
    graph = onnx.helper.make_graph(
        nodes, "g", inputs, [value("y", 1, None)],
        [numpy_helper.from_array(np.ones(8, np.float32), "w")],
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    with pytest.raises(NotInOpset11, match=what):
        in_opset_11(model)


def test_a_file_that_computes_something_else_is_refused(finished, tmp_path, monkeypatch):
    from qatspec.stages import handoff

    monkeypatch.setattr(handoff, "BOUND", 0.0)
    monkeypatch.setattr(
        handoff, "reference", lambda deployment, inputs: [
            1.5 * y for y in reference(deployment, inputs)
        ]
    )  # fmt: skip
    import shutil

    from tests.conftest import Project

    shutil.copytree(finished.folder, tmp_path / "project")
    with pytest.raises(DiagnosticError, match="QS728"):
        Project(tmp_path / "project").run(SET)
