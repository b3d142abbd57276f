from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from qatspec.analyze import Noise, Steps, compare, compare_layers, compare_qat_onnx, sqnr
from qatspec.export import export_qat_onnx, runner
from qatspec.quant.fake_quant import FakeQuantize

COMMON = ("--allow-code", "--workdir", "work")


def chain(count: int = 5) -> nn.Sequential:
    layers = [nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()) for _ in range(count)]
    return nn.Sequential(*layers, nn.Conv2d(4, 2, 1))


def test_signal_to_noise():
    assert sqnr(np.array([1.0, 1.0]), np.array([1.0, 1.0])) == float("inf")
    assert sqnr(np.array([10.0]), np.array([11.0])) == pytest.approx(20.0)
    assert sqnr(np.array([0.0]), np.array([1.0])) == float("-inf")


def test_measures_add_up_over_batches():
    noise, steps = Noise(), Steps()
    for x, y in (([3.0, 4.0], [3.0, 4.0]), ([0.0, 5.0], [0.5, 5.0])):
        noise.add(torch.tensor(x), torch.tensor(y))
    assert noise.db == pytest.approx(10 * np.log10(50 / 0.25))
    steps.add(torch.tensor([0, 0, 0, 0]), torch.tensor([0, 1, -2, 9], dtype=torch.int8))
    steps.add(torch.tensor([5.0]), torch.tensor([5]))
    assert steps.shares == (0.4, 0.2, 0.2, 0.2)
    assert steps.largest == 9


def test_every_op_stays_within_its_bound(everything):
    prepared, x = everything
    found = compare_layers(prepared, [(x,)])
    assert len(found.layers) > 20
    assert found.images == 2
    assert found.departure is None
    assert {layer.dtype for layer in found.layers} == {"int8", "int32"}
    for layer in found.layers:
        assert layer.fake_quant.db > 5, layer
        assert layer.local.count > 0
        assert set(layer.reads) <= {other.node for other in found.layers}
    assert len(found.outputs) == 4
    for output in found.outputs:
        assert output.between.db > 20
        assert 0 < output.largest < 1


class Attention(nn.Module):
    """Norms over the input's own statistics, attention with the heads in the batch, places."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8)
        self.qkv, self.head = nn.Linear(8, 24), nn.Linear(8, 5)

    def forward(self, x):
        x = self.norm(self.conv(x).flatten(2).transpose(1, 2))
        n, tokens, channels = x.shape
        parts = self.qkv(x).chunk(3, -1)
        heads = (p.reshape(n, tokens, 2, 4).transpose(1, 2).flatten(0, 1) for p in parts)
        q, k, v = heads
        share = torch.bmm(q, k.transpose(1, 2)).softmax(-1)
        y = torch.bmm(share, v).unflatten(0, (n, 2)).transpose(1, 2).reshape(n, tokens, channels)
        scores = self.head(x + y)
        return scores, scores.argmax(-1)


def test_attention_with_its_heads_in_the_batch(settled):
    """A softmax is one layer; values with a dim more meet the fake-quant's tensor."""
    prepared = settled(Attention(), torch.randn(4, 3, 16, 16), quantize_output=True)
    found = compare_layers(prepared, [(torch.randn(n, 3, 16, 16),) for n in (1, 3)])
    layers = {layer.node.lstrip(":"): layer for layer in found.layers}
    assert list(layers) == ["x", "conv", "norm", "qkv", "bmm", "softmax", "bmm_1", "add", "head"]
    assert found.departure is None
    assert layers["softmax"].reads == (":bmm",)
    assert layers["bmm_1"].reads == (":softmax", ":qkv")
    assert layers["softmax"].local.count == 4 * 2 * 16 * 16  # images, heads, tokens, tokens
    for layer in found.layers:
        assert layer.integer.db > 20 and layer.between.db > 35, layer
    # rows of a softmax sum to one: so does the signal's size
    assert 4 * 2 * 16 / 16 <= layers["softmax"].integer.signal <= 4 * 2 * 16
    places = found.outputs[1]
    assert places.integer.signal == 4 * 16  # right or wrong, place by place
    assert places.integer.noise == int(places.integer.noise) < 20


@pytest.mark.parametrize("inplace", [False, True])
def test_ops_in_place_do_not_write_upon_what_is_compared(settled, inplace):
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.LeakyReLU(0.1, inplace=inplace), nn.Conv2d(4, 2, 1))
    found = compare_layers(settled(net, torch.randn(2, 3, 8, 8)), [(torch.randn(2, 3, 8, 8),)])
    assert found.departure is None
    assert all(layer.integer.db > 25 for layer in found.layers)


def test_whole_numbers_are_right_or_wrong():
    noise = Noise()
    noise.add(torch.tensor([0, 7, 3, 3]), torch.tensor([0, 1, 3, 3]))
    assert (noise.signal, noise.noise) == (4, 1)
    noise.add(torch.tensor([True, False]), torch.tensor([True, False]))
    assert noise.db == pytest.approx(10 * np.log10(6))


def test_steps_are_counted_layer_by_layer_and_end_to_end(settled):
    """The same numbers by hand, from the fake-quants and from the referee."""
    from qatspec.lower import lower
    from qatspec.referee import interpret_all

    x = torch.randn(2, 4, 8, 8)
    prepared = settled(chain(), x)
    found = compare_layers(prepared, [(x,)])
    program = lower(prepared, (x,))
    values = interpret_all(program, *program.quantize(x.numpy()))
    seen = {}
    name, scale = "3_0_activation_post_process_0", None
    for path, module in prepared.model.named_modules():
        if path.endswith(name):
            scale = module.scale
            module.register_forward_hook(lambda m, a, out: seen.update(fake=out))
    with torch.no_grad():
        prepared.model(x)
    layer = next(e for e in found.layers if "3_0" in e.node)
    expected = torch.round(seen["fake"] / scale).numpy()
    distance = np.abs(expected - values[layer.value])
    assert layer.end_to_end.largest == distance.max()
    assert layer.end_to_end.near[0] == (distance == 0).sum()
    assert layer.between.db == pytest.approx(
        sqnr(seen["fake"].numpy(), values[layer.value].astype(np.float32) * scale.numpy())
    )


def test_a_wrong_layer_is_named_and_not_those_behind_it(settled, monkeypatch):
    x = torch.randn(2, 4, 8, 8)
    prepared = settled(chain(), x)
    honest = compare.lower_layers

    def broken(*args):
        program, layers = honest(*args)
        name = next(n for n in program.consts if n.startswith("_2_0") and n.endswith("bias"))
        consts = {**program.consts, name: program.consts[name] + 50_000}
        return replace(program, consts=consts), layers

    monkeypatch.setattr(compare, "lower_layers", broken)
    found = compare_layers(prepared, [(x,)])
    assert [layer.node for layer in found.layers if layer.departs] == [":_2_0"]
    assert found.departure.node == ":_2_0"
    behind = found.layers[-1]
    assert behind.local.largest <= behind.bound < behind.end_to_end.largest


def test_where_the_error_grows_first(settled):
    x = torch.randn(2, 4, 8, 8)
    prepared = settled(chain(), x)
    assert compare_layers(prepared, [(x,)]).growth is None
    coarse = next(
        m
        for n, m in prepared.model.named_modules()
        if isinstance(m, FakeQuantize) and "3_0_activation" in n
    )
    coarse.set_scale(coarse.scale * 16)
    found = compare_layers(prepared, [(x,)])
    assert found.growth.node == ":_3_0"
    assert found.growth.lost > 12
    assert found.departure is None  # coarse, but integers and fake-quant agree
    assert found.worst[0].integer.db == min(e.integer.db for e in found.layers)


def test_a_module_that_is_called_twice(settled):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())

        def forward(self, x):
            return self.body(self.body(x))

    x = torch.randn(2, 4, 8, 8)
    found = compare_layers(settled(Twice(), x, modules={"body": {}}), [(x,)])
    nodes = [layer.node for layer in found.layers]
    assert len(set(nodes)) == len(nodes)
    assert "body:_0" in nodes and "body:_0#2" in nodes


@pytest.mark.parametrize("march", [None, "onnxruntime"])
@pytest.mark.parametrize("without_vnni", [False, True])
def test_onnxruntime_departs_by_its_own_rewrites_alone(
    march, without_vnni, settled, tmp_path, monkeypatch
):
    pytest.importorskip("onnxruntime")
    if without_vnni:  # what such a CPU is asked for loads, and is as near
        monkeypatch.setattr(runner, "saturates", lambda: True)
    x = torch.randn(4, 4, 16, 16)
    prepared = settled(chain(), x, march=march)
    path = tmp_path / "net-qat.onnx"
    export_qat_onnx(prepared, path, (x,))
    found = compare_qat_onnx(prepared, path, [(x,)])
    assert list(found) == ["as written", "optimized"]
    assert all(len(errors) == 6 for errors in found.values())
    assert all(e.steps.count for e in found["as written"])
    assert found["as written"][1].steps.shares[0] > 0.9999
    other = settled(chain(), x * 2, march=march)
    assert compare_qat_onnx(other, path, [(x,)])["as written"][1].steps.shares[0] < 0.99


def test_16_bits_behind_attention_in_onnxruntime(settled, tmp_path):
    """Files of opset 21, whose int8 onnxruntime is asked to keep."""
    wide = {"activation": {"dtype": "qint16", "observer": "moving_average"}}
    rules = {"": "horizon_qat", "module_name": {"norm": wide}}
    x = torch.randn(4, 3, 16, 16)
    prepared = settled(Attention(), x, qconfig=rules, quantize_output=True)
    path = tmp_path / "net.onnx"
    export_qat_onnx(prepared, path)
    images = [(torch.randn(2, 3, 16, 16),)]
    for errors in compare_qat_onnx(prepared, path, images).values():
        assert {"qkv", "softmax", "add"} <= {error.node.lstrip(":") for error in errors}


def test_the_command(finished):
    result = finished.call("compare", "toy.yaml", "--images", "8", *COMMON)
    assert result.returncode == 0, result.stderr
    assert max(map(len, result.stdout.splitlines())) <= 100
    for words in ("stage qat, march bayes, 8 images", "toy.yaml:", "given equal inputs: all"):
        assert words in result.stdout
    assert "head" in result.stdout and "toy_plugin.py" in result.stdout


def test_the_command_as_data(finished):
    result = finished.call("compare", "toy.yaml", "--format", "json", "--onnx", *COMMON)
    assert result.returncode == 0, result.stderr
    data = json.loads(result.stdout)
    assert (data["format"], data["images"], data["stage"]) == (1, 16, "qat")
    layer = data["layers"][1]
    assert layer["module"] == "stem.0"
    file, _, line = layer["rule_at"].rpartition(":")
    assert "horizon_calibrated" in (finished.folder / file).read_text().splitlines()[int(line) - 1]
    assert layer["sqnr"]["integer"] > 15
    assert sum(layer["local"][k] for k in ("0", "1", "2", ">2")) == pytest.approx(1)
    assert layer["local"]["max"] <= layer["bound"] == 1
    assert set(data["onnx"]) == {"as written", "optimized"}
    assert data["outputs"][0]["dtype"] == "int32"
    assert sorted(data["worst"]) == sorted(e["node"] for e in data["layers"])


def test_the_threshold_is_a_gate(finished):
    passed = finished.call("compare", "toy.yaml", "--threshold", "5", *COMMON)
    assert passed.returncode == 0, passed.stderr
    failed = finished.call("compare", "toy.yaml", "--threshold", "90", *COMMON)
    assert failed.returncode == 1
    data = json.loads(finished.call("compare", "toy.yaml", "--format", "json", *COMMON).stdout)
    rows = [(e["node"], e["sqnr"]["integer"]) for e in data["layers"]] + [
        (e["name"], e["sqnr"]["integer"]) for e in data["outputs"]
    ]
    name, measured = min((row for row in rows if row[1] is not None), key=lambda row: row[1])
    assert f"`{name}` has {measured:.1f} dB, the threshold is 90 dB" in failed.stderr
    assert "QS731" in failed.stderr
    as_data = finished.call("compare", "toy.yaml", "--threshold", "90", "--format", "json", *COMMON)
    assert as_data.returncode == 1
    assert json.loads(as_data.stdout)["problems"][0]["code"] == "QS731"
