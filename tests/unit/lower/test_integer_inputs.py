"""Ops that read integers among the inputs run on the host, and the rest is the chip's: the
integers of the Program behind the float part give what the fake-quant model gives."""

from __future__ import annotations

import inspect

import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qatspec.analyze import compare_qat_onnx
from qatspec.backend import compile as compile_program
from qatspec.export import export_qat_onnx
from qatspec.export.host import HostRunner, export_host
from qatspec.graph.deploy import deploy
from qatspec.lower import lower
from qatspec.lower.split import host_parts
from qatspec.stages.integers import produce_with
from tests.nets import settle

pytest.importorskip("onnxruntime")


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(20, 8)
        self.places = nn.Embedding(6, 8)
        self.conv = nn.Conv1d(8, 8, 3, padding=1)
        self.picture = nn.Conv2d(3, 8, 3)
        self.fc, self.wide = nn.Linear(8, 3), nn.Linear(20, 3)


def net(forward):
    # fx looks forward up by the name of its function
    return type("Net", (Layers,), {"forward": forward, forward.__name__: forward})()


def words(self, ids):
    return self.fc(F.relu(self.conv(self.table(ids).transpose(1, 2))).mean(2))


def positions(self, ids):
    x = self.table(ids) + self.places(torch.arange(6))
    return self.fc(x.relu().mean(1))


def shifted(self, ids):
    return self.fc(self.table(ids + 1)[:, 0].relu())


def bag(self, ids):
    return self.fc(self.table(ids).mean(1))


def weighted(self, ids, mask):
    return self.fc((self.table(ids) * mask.unsqueeze(-1)).relu().mean(1))


def masked(self, ids, mask):
    x = F.relu(self.conv(self.table(ids).transpose(1, 2))) * mask.float().unsqueeze(1)
    return self.fc(x.mean(2))


def compared(self, ids):
    return self.fc((self.table(ids) * (ids != 0).unsqueeze(-1).float()).mean(1))


def one_hot(self, ids):
    return self.wide(F.one_hot(ids, 20).float().mean(1))


def beside_a_picture(self, ids, rgb):
    seen = F.relu(self.picture(rgb)).mean((2, 3))
    return self.fc(seen + self.table(ids).mean(1))


IDS, MASK = torch.arange(12).reshape(2, 6), torch.tensor([[1, 1, 1, 0, 0, 0], [1] * 6])
NETS = [
    words, positions, shifted, bag, weighted, masked, compared, one_hot, beside_a_picture,
]  # fmt: skip


def inputs_of(forward):
    known = {"ids": IDS, "mask": MASK, "rgb": torch.randn(2, 3, 6, 6)}
    return tuple(known[name] for name in inspect.signature(forward).parameters if name in known)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32], ids=str)
@pytest.mark.parametrize("forward", NETS, ids=lambda f: f.__name__)
def test_integers_behind_the_host_give_the_fake_quants_numbers(forward, dtype, tmp_path):
    if forward is one_hot and dtype == torch.int32:
        pytest.skip("torch's one_hot takes int64 alone")
    torch.manual_seed(0)
    given = inputs_of(forward)
    given = tuple(x if x.is_floating_point() else x.to(dtype) for x in given)
    prepared = settle(net(forward), *given, quantize_output=True, march="bayes")
    assert not [w for w in prepared.warnings if w.code == "QS608" and "table" in w.message]
    deployment = deploy(prepared, given)
    program = lower(prepared, given, deployment=deployment)
    assert all(port.dtype == "int8" for port in program.inputs)
    found = host_parts(deployment)
    assert found.before and not found.after
    export_host(prepared, found, tmp_path, "net")
    produce = produce_with(program, program.tree, HostRunner.load(tmp_path, "net"))
    artifact = compile_program(program, "bayes")
    for count in (2, 1):  # any batch
        few = tuple(x[:count] for x in given)
        with torch.no_grad():
            wanted = prepared.model(*few)
        (scale,) = program.outputs[0].scale
        assert (produce(*few) - wanted).abs().max() <= 1.01 * scale
    ints = program.quantize(*HostRunner.load(tmp_path, "net").before(*(x.numpy() for x in given)))
    for mine, theirs in zip(program.run(*ints), artifact.run(*ints), strict=True):
        assert (mine == theirs).all()


@pytest.mark.parametrize("forward", NETS, ids=lambda f: f.__name__)
def test_the_qat_onnx_holds_them_or_says_where_it_begins(forward, tmp_path):
    given = inputs_of(forward)
    prepared = settle(net(forward), *given, quantize_output=True, march="bayes")
    path = tmp_path / "qat.onnx"
    warnings = [w.code for w in export_qat_onnx(prepared, path, given)]
    names = [port.name for port in onnx.load(path).graph.input]
    whole = forward not in (masked, compared, one_hot)
    assert ("QS519" in warnings) == (not whole)
    assert ("ids" in names) == whole or forward is masked


def test_an_input_that_is_not_read_has_no_port():
    given = (torch.randn(2, 3, 6, 6), torch.randn(2, 4))
    model = net(lambda self, rgb, other: self.fc(self.picture(rgb).relu().mean((2, 3))))
    prepared = settle(model, *given, quantize_output=True)
    program = lower(prepared, given)
    assert [port.name for port in program.inputs] == ["rgb"]
    found = produce_with(program, program.tree, None, ("rgb", "other"))(*given)
    with torch.no_grad():
        assert torch.allclose(found, prepared.model(*given))


def test_a_qat_onnx_that_begins_late_is_compared(tmp_path):
    given = inputs_of(one_hot)
    prepared = settle(net(one_hot), *given, quantize_output=True, march="bayes")
    export_host(prepared, host_parts(deploy(prepared, given)), tmp_path, "net")
    export_qat_onnx(prepared, tmp_path / "net-qat.onnx", given)
    layers = compare_qat_onnx(prepared, tmp_path / "net-qat.onnx", [given])["as written"]
    assert layers and all(layer.steps.shares[0] == 1 for layer in layers)
