"""Networks whose forward returns something else in training than in evaluation."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from qatspec.diag import DiagnosticError
from qatspec.export import export_qat_onnx
from qatspec.export.host import HostRunner, export_host
from qatspec.graph.deploy import deploy
from qatspec.ir import on_host
from qatspec.lower import lower
from qatspec.lower.split import host_parts
from qatspec.prepare import prepare, set_stage
from qatspec.stages.integers import produce_with

SIZE = (32, 48)


def images(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(seed))


def conv(i: int, o: int, stride: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(i, o, 3, stride, 1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(o), nn.ReLU())


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = conv(3, 8, 2), conv(8, 8, 2)


class Anchors(Net):
    """Anchor boxes from a buffer, grids made in forward and kept (YOLOv5)."""

    def __init__(self) -> None:
        super().__init__()
        self.m = nn.ModuleList(nn.Conv2d(8, 2 * 7, 1) for _ in range(2))
        self.register_buffer("anchors", torch.tensor([[[3.0, 4], [5, 6]], [[9, 8], [7, 12]]]))
        self.grid = [torch.empty(0) for _ in range(2)]
        self.stride = torch.tensor([2.0, 4.0])

    def forward(self, x: Tensor) -> Any:
        x = self.stem(x)
        feats, z = [x, self.down(x)], []
        for i in range(2):
            feats[i] = self.m[i](feats[i])
            bs, _, ny, nx = feats[i].shape
            feats[i] = feats[i].view(bs, 2, 7, ny, nx).permute(0, 1, 3, 4, 2).contiguous()
            if not self.training:
                if self.grid[i].shape[2:4] != feats[i].shape[2:4]:
                    yv, xv = torch.meshgrid(torch.arange(ny), torch.arange(nx), indexing="ij")
                    self.grid[i] = torch.stack((xv, yv), 2).view(1, 1, ny, nx, 2).float()
                xy, wh, conf = feats[i].sigmoid().split((2, 2, 3), 4)
                xy = (xy * 2 - 0.5 + self.grid[i]) * self.stride[i]
                wh = (wh * 2) ** 2 * self.anchors[i].view(1, 2, 1, 1, 2)
                z.append(torch.cat((xy, wh, conf), 4).view(bs, 2 * ny * nx, 7))
        return feats if self.training else (torch.cat(z, 1), feats)


class Distribution(Net):
    """A distribution over distances, whose mean a fixed convolution computes (YOLOv8)."""

    def __init__(self) -> None:
        super().__init__()
        self.box, self.cls = nn.Conv2d(8, 16, 1), nn.Conv2d(8, 3, 1)
        self.dfl = nn.Conv2d(4, 1, 1, bias=False).requires_grad_(False)
        self.dfl.weight.data[:] = torch.arange(4.0).view(1, 4, 1, 1)

    def forward(self, x: Tensor) -> Any:
        x = self.stem(x)
        feats = [torch.cat((self.box(f), self.cls(f)), 1) for f in (x, self.down(x))]
        if self.training:
            return feats
        shape = feats[0].shape
        flat = torch.cat([f.view(shape[0], 19, -1) for f in feats], 2)
        box, cls = flat.split((16, 3), 1)
        n = box.shape[-1]
        dist = self.dfl(box.view(shape[0], 4, 4, n).transpose(2, 1).softmax(1)).view(-1, 4, n)
        lt, rb = dist.chunk(2, 1)
        points = torch.stack([torch.arange(n) % 7, torch.arange(n) // 7]).float() + 0.5
        a, b = points - lt, points + rb
        return torch.cat((torch.cat(((a + b) / 2, b - a), 1), cls.sigmoid()), 1), feats


class Decoupled(Net):
    """Exponential sizes; the scores' sigmoid is applied in evaluation alone (YOLOX)."""

    def __init__(self) -> None:
        super().__init__()
        self.reg, self.obj = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Any:
        x = self.down(self.stem(x))
        reg, obj = self.reg(x), self.obj(x)
        if self.training:
            return {"reg": reg, "obj": obj}
        out = torch.cat([reg, obj.sigmoid()], 1)
        hw = out.shape[-2:]
        out = out.flatten(start_dim=2).permute(0, 2, 1)
        yv, xv = torch.meshgrid(torch.arange(hw[0]), torch.arange(hw[1]), indexing="ij")
        grid = torch.stack((xv, yv), 2).view(1, -1, 2).type_as(out)
        xy, wh = (out[..., :2] + grid) * 4, torch.exp(out[..., 2:4]) * 4
        return torch.cat([xy, wh, out[..., 4:]], -1)


class Segments(Net):
    """Enlarges, and chooses the class, in evaluation alone."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Any:
        size = x.shape[-2:]
        y = self.head(self.down(self.stem(x)))
        if self.training:
            return y
        return F.interpolate(y, size=size, mode="bilinear", align_corners=False).softmax(1)


class Auxiliary(Segments):
    """A head with batch norm and dropout that training alone runs (DeepLab, PSPNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.aux = nn.Sequential(conv(8, 4), nn.Dropout(0.1), nn.Conv2d(4, 5, 1))

    def forward(self, x: Tensor) -> Any:
        size = x.shape[-2:]
        early = self.stem(x)
        result = {"out": self.head(self.down(early))}
        if self.training:
            result["aux"] = F.interpolate(self.aux(early), size=size, mode="bilinear")
        return result


class Middle(Net):
    """Auxiliary classifiers in the middle, functional dropout behind them (GoogLeNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.aux, self.fc = nn.Linear(8, 5), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Any:
        x = self.stem(x)
        aux = self.aux(x.mean((2, 3))) if self.training else None
        x = F.dropout(self.down(x), 0.2, self.training).mean((2, 3))
        x = self.fc(x)
        return (x, aux) if self.training else x


class Normed(Net):
    """A batch norm and a scale in the post-process."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.norm = nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4)
        self.factor = nn.Parameter(torch.tensor([1.5]))
        self.norm.running_mean.fill_(0.25)

    def forward(self, x: Tensor) -> Any:
        y = self.head(self.down(self.stem(x)))
        return [y] if self.training else {"y": self.norm(y) * self.factor, "best": y.argmax(1)}


class Inner(nn.Module):
    """The differing forward is that of a module inside."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Anchors()

    def forward(self, x: Tensor) -> Any:
        return self.net(x)


class Cached(Distribution):
    """Anchors that a generator gives are kept on the module for the next call (YOLOv8)."""

    shape = None

    def forward(self, x: Tensor) -> Any:
        feats = [self.box(f) for f in (self.stem(x), self.down(self.stem(x)))]
        if self.training:
            return feats
        shape = feats[0].shape
        if self.shape != shape:
            made = (self.row(f, s) for f, s in zip(feats, torch.tensor([2.0, 4.0]), strict=True))
            self.strides, self.shape = torch.cat(list(made)).transpose(0, 1), shape
        flat = torch.cat([f.view(shape[0], 16, -1) for f in feats], 2)
        return flat.sigmoid() * self.strides, feats

    def row(self, f: Tensor, stride: Tensor) -> Tensor:
        return torch.full((f.shape[2] * f.shape[3], 1), stride, dtype=f.dtype, device=f.device)


class Typed(Decoupled):
    """The grid is cast to the type that the image's tensor names (YOLOX)."""

    def forward(self, x: Tensor) -> Any:
        y = self.reg(self.down(self.stem(x)))
        if self.training:
            return y
        grid = torch.arange(y.shape[3]).view(1, 1, 1, -1).type(x[0].type())
        y[:, :2] = (y[:, :2] + grid) * 4
        return y


class Filled(Decoupled):
    """Boxes are assigned, part by part, into a tensor of one of torch's old types (YOLOv3)."""

    def forward(self, x: Tensor) -> Any:
        y = self.reg(self.down(self.stem(x)))
        if self.training:
            return y
        FloatTensor = torch.cuda.FloatTensor if x.is_cuda else torch.FloatTensor
        n, (h, w) = y.size(0), y.shape[2:]
        stride = SIZE[0] / h
        columns = torch.arange(w).repeat(h, 1).view([1, h, w]).type(FloatTensor)
        anchors = FloatTensor([(3 / stride, 4 / stride)])
        boxes = FloatTensor(y.shape)
        boxes[:, :2] = torch.sigmoid(y[:, :2]) + columns
        boxes[:, 2] = torch.exp(y[:, 2].data) * anchors[:, 0:1]
        boxes[:, 3] = torch.exp(y[:, 3].data) * anchors[:, 1:2]
        return boxes.view(n, 4, -1) * stride


class Peaks(Segments):
    """The best places of a heat map: pooling, comparison, topk, gather (CenterNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(3, 1, 1)

    def forward(self, x: Tensor) -> Any:
        y = self.head(self.down(self.stem(x)))
        if self.training:
            return {"heat": y}
        heat = y.sigmoid_()
        heat = heat * (self.pool(heat) == heat).float()
        score, index = torch.topk(heat.view(heat.shape[0], -1), 1)
        return {"score": score, "value": y.flatten(1).gather(1, index)}


class Guided(Segments):
    """The post-process reads the image too."""

    def forward(self, x: Tensor) -> Any:
        y = self.head(self.down(self.stem(x)))
        return y if self.training else F.interpolate(y, x.shape[2:]) * x.mean(1, keepdim=True)


NETS: list[Callable[[], nn.Module]] = [
    Anchors, Distribution, Decoupled, Segments, Auxiliary, Middle, Normed, Inner,
    Cached, Typed, Filled, Peaks, Guided,
]  # fmt: skip
KINDS = pytest.mark.parametrize("kind", NETS)


def test_a_cache_that_an_earlier_call_filled() -> None:
    model = Cached().eval()
    model(images(2))  # the strides are those of this call, and so is the stored shape
    prepared = prepare(model, (images(2),), qconfig="horizon_qat", quantize_output=False)
    other = torch.cat([images(3), images(3)], 2)
    pairs = paired(prepared.model(other), Cached.forward(copy.deepcopy(model), other))
    assert [a.shape for a, _ in pairs] == [b.shape for _, b in pairs]
    torch.testing.assert_close(pairs[0][0], pairs[0][1], rtol=1e-4, atol=1e-4)


def leaves(result: Any) -> list[Tensor]:
    return [x for x in pytree.tree_leaves(result) if isinstance(x, Tensor)]


def paired(found: Any, wanted: Any) -> list[tuple[Tensor, Tensor]]:
    """The tensors of both; a Program's mappings have their keys in alphabetical order."""
    if isinstance(wanted, dict):
        assert sorted(found) == sorted(wanted)
        found, wanted = ([x[key] for key in sorted(wanted)] for x in (found, wanted))
    return list(zip(leaves(found), leaves(wanted), strict=True))


def assert_equal(a: Any, b: Any, tolerance: float = 1e-4) -> None:
    assert pytree.tree_structure(a) == pytree.tree_structure(b)
    for x, y in zip(leaves(a), leaves(b), strict=True):
        torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance)


def prepared_net(kind: Callable[[], nn.Module], **settings: Any) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    net = kind().eval()
    given = {"qconfig": "horizon_calibration", **settings}
    return net, prepare(net, (images(2),), **given)


@KINDS
def test_calibration_computes_what_the_float_model_does(kind):
    net, prepared = prepared_net(kind)
    x = images(3)
    with torch.no_grad():
        assert_equal(prepared.model(x), net(x))
    assert {w.code for w in prepared.warnings} >= {"QS517"}
    assert set(net.state_dict()) <= set(prepared.model.state_dict())
    kept = {n for n in prepared.model.state_dict() if "end_of_forward" in n}
    assert not kept


@KINDS
def test_training_returns_what_the_float_model_returns_in_training(kind):
    net, prepared = prepared_net(kind)
    x = images(4)
    prepared.model(x)
    set_stage(prepared, "qat")
    net.train()
    result, wanted = prepared.model(x), net(x)
    assert pytree.tree_structure(result) == pytree.tree_structure(wanted)
    for a, b in zip(leaves(result), leaves(wanted), strict=True):
        assert a.shape == b.shape
    sum(a.square().mean() for a in leaves(result)).backward()
    trained = {n for n, p in prepared.model.named_parameters() if p.grad is not None}
    sum(a.square().mean() for a in leaves(wanted)).backward()
    assert trained >= {n for n, p in net.named_parameters() if p.grad is not None}


@KINDS
@pytest.mark.parametrize("quantize_output", [True, False])
def test_all_forms_agree(kind, quantize_output, tmp_path):
    _, prepared = prepared_net(kind, quantize_output=quantize_output, march="bernoulli2")
    x = images(3)
    with torch.no_grad():
        prepared.model(x)
        set_stage(prepared, "eval")
        wanted = prepared.model(x)
        program = lower(prepared, (x[:1],))
        deployment = deploy(prepared, (x[:1],))
        host = None
        if on_host(program.tree):
            export_host(prepared, host_parts(deployment), tmp_path, "net")
            host = HostRunner.load(tmp_path, "net")
        found = produce_with(program, program.tree, host)(x)
        export_qat_onnx(prepared, tmp_path / "qat.onnx", (x[:1],))
    for a, b in paired(found, wanted):
        assert a.shape == b.shape
        if a.dtype.is_floating_point:
            spread = (b.max() - b.min()).clamp(min=1e-3)
            assert (a - b).abs().mean() / spread < 0.02
        else:
            assert (a != b).float().mean() < 0.05


@KINDS
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_computes_the_same(kind, copied):
    _, prepared = prepared_net(kind)
    x = images(2)
    with torch.no_grad():
        assert_equal(copied(prepared.model)(x), prepared.model(x))


class Twice(Net):
    """The head reads another tensor in each mode."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Any:
        x = self.down(self.stem(x))
        return self.head(x.sigmoid() if self.training else x.tanh())


def test_two_networks_with_one_weight_are_refused_and_the_fix_works():
    with pytest.raises(DiagnosticError, match="QS503") as caught:
        prepared_net(Twice)
    (found,) = caught.value.diagnostics
    assert "boundary: [down.2]" in found.help
    net, prepared = prepared_net(Twice, prepare={"boundary": ["down.2"]})
    assert_equal(prepared.model(images(2)), net(images(2)))
    set_stage(prepared, "qat")
    net.train()
    assert prepared.model(images(2)).shape == net(images(2)).shape


def test_a_boundary_ends_the_network_where_both_modes_go_on():
    net, prepared = prepared_net(Segments, prepare={"boundary": ["down"]})
    assert_equal(prepared.model(images(2)), net(images(2)))
    decisions = prepared.decisions.values()
    assert not [d for d in decisions if d.module.startswith("head")]
    assert [d for d in decisions if d.module.startswith("down")]
    prepared.model(images(2))
    set_stage(prepared, "eval")
    program = lower(prepared, (images(1),))
    assert [port.shape for port in program.outputs] == [(8, 8, 12)]


class Enlarging(Segments):
    """Both modes enlarge the output."""

    def forward(self, x: Tensor) -> Any:
        y = F.interpolate(self.head(self.down(self.stem(x))), scale_factor=2)
        return y if self.training else y.argmax(1)


def test_an_output_that_is_no_conv_and_the_fix():
    with pytest.raises(DiagnosticError, match="QS604") as caught:
        prepared_net(Enlarging, quantize_output=False)
    assert "boundary: [head]" in caught.value.diagnostics[0].help
    fixed = {"quantize_output": False, "prepare": {"boundary": ["head"]}}
    net, prepared = prepared_net(Enlarging, **fixed)
    assert_equal(prepared.model(images(2)), net(images(2)))


def test_the_qat_file_says_where_it_ends(tmp_path):
    _, prepared = prepared_net(Peaks)
    prepared.model(images(2))
    set_stage(prepared, "eval")
    warnings = export_qat_onnx(prepared, tmp_path / "qat.onnx")
    assert [w.code for w in warnings] == ["QS519"]


@pytest.mark.parametrize(("name", "code"), [("aux", "QS518"), ("nowhere", "QS505")])
def test_a_boundary_that_is_none(name, code):
    with pytest.raises(DiagnosticError, match=code):
        prepared_net(Auxiliary, prepare={"boundary": [name]})
