"""Float parts around what is prepared: cut off at the boundary that the spec states."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from qatspec.diag import DiagnosticError
from qatspec.export.host import HostRunner, export_host
from qatspec.graph.deploy import deploy
from qatspec.ir import HOST, unflatten
from qatspec.lower import lower
from qatspec.lower.split import host_parts

COMMON = ("--allow-code", "--workdir", "work", "--device", "cpu")


class Net(nn.Module):
    """A scaled input, a body, and a float head with a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 4, 1))
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        maps = self.body(x.transpose(2, 3) / 255)
        return {"scores": torch.softmax(self.head(maps.mean((2, 3))), 1), "maps": maps}


def test_head_and_scaling_stay_on_the_host(settled, tmp_path):
    x = torch.rand(2, 3, 16, 16) * 255
    prepared = settled(Net(), x, modules={"body": {"quantize_output": False}})
    program = lower(prepared, (x,), name="net")
    host = host_parts(deploy(prepared, (x,)))
    assert host.before == ("transpose", "div")
    assert host.after[0] == "mean" and "head" in host.after and host.after[-1] == "softmax"
    assert {op.origin.module.split(".")[0] for op in program.ops} == {"body"}
    assert [p.dtype for p in program.outputs] == ["int32"]
    assert program.tree == {HOST: [0]}

    pytest.importorskip("onnxruntime")
    files = export_host(prepared, host, tmp_path, "net")
    assert [f.name for f in files] == ["net-pre.onnx", "net-post.onnx"]
    runner = HostRunner.load(tmp_path, "net")
    ints = program.run(*program.quantize(*runner.before(x.numpy())))
    tree, flat = runner.behind(program.tree, program.dequantize(ints), [x.numpy()])
    found = unflatten(tree, flat)
    with torch.no_grad():
        expected = prepared.model(x)
    assert set(found) == {"scores", "maps"}
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value.numpy(), atol=0.02)


def test_a_prepared_whole_has_no_host(everything):
    prepared, x = everything
    host = host_parts(deploy(prepared, (x,)))
    assert (host.before, host.after, host.pre, host.post) == ((), (), None, None)


def test_what_only_moves_numbers_stays_on_the_chip(settled):
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 4, 1))

        def forward(self, x):
            return self.body(x.transpose(2, 3)).flatten(2)

    x = torch.randn(2, 3, 6, 8)
    prepared = settled(Flat(), x, modules={"body": {}})
    program = lower(prepared, (x,))
    assert program.tree == 0
    assert program.outputs[0].shape == (4, 48)
    assert [p.name for p in program.inputs] == ["x"]


def test_a_float_part_that_reads_the_image(settled):
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 3, 1))

        def forward(self, x):
            return self.body(x) * x.mean()

    x = torch.randn(1, 3, 4, 4)
    prepared = settled(Skip(), x, modules={"body": {}})
    with pytest.raises(DiagnosticError) as caught:
        lower(prepared, (x,))
    (found,) = caught.value.diagnostics
    assert found.code == "QS707" and "`mean`" in found.message
    assert found.span.file.endswith("test_split.py")


def test_a_float_op_between_prepared_modules_says_the_way_out(settled):
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.gate = nn.Sequential(nn.Conv2d(3, 4, 1)), nn.Conv2d(4, 4, 1)
            self.tail = nn.Sequential(nn.Conv2d(4, 2, 1))

        def forward(self, x):
            x = self.body(x)
            return self.tail(x * self.gate(x).cumprod(1))

    x = torch.randn(1, 3, 4, 4)
    with pytest.raises(DiagnosticError) as caught:
        lower(settled(Gate(), x, modules={"body": {}, "tail": {}}), (x,))
    found = {d.code: d for d in caught.value.diagnostics}
    assert set(found) == {"QS701", "QS702"}
    assert "cumprod" in found["QS701"].message and "`gate`" in found["QS702"].message
    for diagnostic in found.values():
        assert diagnostic.help.startswith("no prepared module holds it")
        assert "`quantize: modules`" in diagnostic.help
    prepared = settled(Gate(), x, modules={"body": {}})  # what the help says
    assert {op.origin.module.split(".")[0] for op in lower(prepared, (x,)).ops} == {"body"}


def test_integers_without_their_float_parts_do_not_run(tmp_path):
    with pytest.raises(DiagnosticError) as caught:
        HostRunner.load(tmp_path, "net")
    assert caught.value.diagnostics[0].code == "QS725"


def test_a_project_whose_head_is_float(project):
    pytest.importorskip("onnxruntime")
    project.edit(
        "quantize: {prepare: horizon, quantize_output: false}",
        "quantize: {modules: {stem: {prepare: horizon}}}",
    )
    checked = project.call("check", "toy.yaml", *COMMON[:3])
    assert checked.returncode == 0, checked.stderr
    assert "host    head: in float behind the compiled program" in checked.stdout
    summary = project.run()
    assert summary["metrics"]["integer"]["accuracy"] >= 90
    kinds = {a["path"]: a["kind"] for a in summary["artifacts"]}
    assert kinds["convert/toy-post.onnx"] == "host_onnx"
    record = json.loads((project.workdir / "convert/toy-outputs.json").read_text())
    assert record["host"] == {"before": [], "after": ["head"]}
    for stage in ("integer", "bin"):
        result = project.call("eval", "toy.yaml", "--stage", stage, *COMMON)
        assert result.returncode == 0, result.stderr
        assert float(result.stdout.split()[-1]) == summary["metrics"]["integer"]["accuracy"]
    compared = project.call("compare", "toy.yaml", *COMMON[:3])
    assert compared.returncode == 0, compared.stderr
    assert "are within their bound" in compared.stdout and "Outputs." not in compared.stdout
    np.save(project.folder / "images.npy", np.zeros((2, 3, 16, 16), np.float32))
    infer = ("infer", "toy.yaml", "--model", "work/compile/toy.bin", "--input", "images.npy")
    result = project.call(*infer, "--output", "out", *COMMON)
    assert result.returncode == 0, result.stderr
    converted = project.call(
        "convert", "toy.yaml", "--qat-model-path", "work/qat/qat-checkpoint-best.pth.tar",
        "--output-dir", "flat", *COMMON[:3],
    )  # fmt: skip
    assert converted.returncode == 0, converted.stderr
    assert "on the host, in float: head behind the Program" in converted.stderr
    assert "toy-post.onnx" in converted.stdout
    (project.workdir / "convert/toy-post.onnx").unlink()
    result = project.call("eval", "toy.yaml", "--stage", "bin", *COMMON)
    assert result.returncode == 1 and "QS725" in result.stderr
