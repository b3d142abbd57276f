"""Networks whose forward returns something else in training than in evaluation: where they end."""

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
from tests.unit.prepare.ends import NETS, Auxiliary, Cached, Net, Peaks, Segments, images

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


class Biased(Net):
    """A convolution that has a bias in training alone, where evaluation writes None."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(8, 4, 1)
        nn.init.constant_(self.head.bias, 100.0)

    def forward(self, x: Tensor) -> Any:
        bias = self.head.bias * 1 if self.training else None
        y = F.conv2d(self.down(self.stem(x)), self.head.weight, bias)
        return y if self.training else (y, y.sigmoid())


def test_none_is_no_operand_that_training_alone_computes():
    net, prepared = prepared_net(Biased)
    prepared.model(images(2))
    set_stage(prepared, "qat")
    assert prepared.model(images(2)).mean() > 90
    net.train()
    assert net(images(2)).mean() > 90


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
