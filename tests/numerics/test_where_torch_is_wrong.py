"""What torch.ao's FX mode gets wrong without a word, and what qatspec does instead.

Each test shows torch's behaviour first (so that it tells when torch fixes it) and then ours. The
reasons stand in qatspec/adr/0011-where-torch-is-not-followed.md.
"""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qatspec.diag import DiagnosticError
from qatspec.prepare import prepare, set_stage
from qatspec.quant.build import build_fake_quant
from qatspec.quant.fake_quant import FakeQuantize, fake_quantize
from qatspec.types import QConfig, QSpec

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.ao.quantization import (
        FakeQuantize as TorchFakeQuantize,
        QConfigMapping,
        get_default_qat_qconfig,
    )
    from torch.ao.quantization.fx.custom_config import PrepareCustomConfig
    from torch.ao.quantization.quantize_fx import prepare_qat_fx

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
INT8 = QConfig(activation=QSpec(), weight=QSpec(ch_axis=0))
INT16 = QConfig(activation=QSpec(dtype="qint16"), weight=QSpec(dtype="qint16", ch_axis=0))
#: two qconfigs of torch's that can be told apart by their weights' and activations' ranges
X86, NARROW = get_default_qat_qconfig("x86"), get_default_qat_qconfig("qnnpack")


def _torchs(model: nn.Module, mapping: QConfigMapping) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return prepare_qat_fx(copy.deepcopy(model).train(), mapping, (X,))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 1))
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.stem(x))


def _owners(model: nn.Module) -> tuple[str, str]:
    """Whose qconfig the stem's conv has in torch: (its weight's, its activation's)."""
    conv = model.stem.get_submodule("0")
    weight = "none"
    if hasattr(conv, "weight_fake_quant"):
        per_channel = conv.weight_fake_quant.qscheme == torch.per_channel_symmetric
        weight = "x86" if per_channel else "qnnpack"
    node = next(n for n in model.graph.nodes if n.target == "stem.0")
    post = [u for u in node.users if "post_process" in str(u.target)]
    if not post:
        return weight, "none"
    reduced = model.get_submodule(post[0].target).activation_post_process.quant_max == 127
    return weight, "x86" if reduced else "qnnpack"


def test_one_rule_can_decide_the_weight_and_another_the_activation() -> None:
    mapping = QConfigMapping().set_global(X86).set_module_name_regex("stem.*", NARROW)
    assert _owners(_torchs(Net(), mapping)) == ("x86", "qnnpack")
    mapping = QConfigMapping().set_module_name_regex("stem.*", NARROW)
    assert _owners(_torchs(Net(), mapping)) == ("none", "qnnpack")
    mapping = QConfigMapping().set_object_type(nn.Conv2d, X86).set_module_name("stem", NARROW)
    assert _owners(_torchs(Net(), mapping)) == ("x86", "qnnpack")

    for rules in (
        {"": INT8, "module_name_regex": {"stem.*": INT16}},
        {"module_name_regex": {"stem.*": INT16}},
        {"": INT16, "object_type": {nn.Conv2d: INT16}, "module_name": {"stem": INT8}},
    ):
        decision = prepare(Net(), (X,), qconfig=rules).decisions[":stem_0"]
        assert decision.activation is not None and decision.weight is not None
        assert decision.activation.dtype == decision.weight.dtype == "qint16"


def test_a_rule_that_says_float_leaves_the_weight_quantized() -> None:
    mapping = QConfigMapping().set_global(X86).set_module_name_regex("stem.*", None)
    weight, _ = _owners(_torchs(Net(), mapping))
    assert weight == "x86"

    prepared = prepare(Net(), (X,), qconfig={"": INT8, "module_name_regex": {"stem.*": None}})
    assert type(prepared.model.stem.get_submodule("0")) is nn.Conv2d


def test_a_rule_that_matches_nothing_is_silent() -> None:
    mapping = QConfigMapping().set_global(X86).set_module_name("stemm", NARROW)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        prepare_qat_fx(Net().train(), mapping, (X,))
    assert not any("stemm" in str(w.message) for w in caught)

    prepared = prepare(Net(), (X,), qconfig={"": INT8, "module_name": {"stemm": INT16}})
    assert [w.code for w in prepared.warnings] == ["QS312"]


class SharedConv(nn.Module):
    """FCOS's head in small: one conv, a batch norm a call."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(2))
        with torch.no_grad():
            self.norms[0].weight.fill_(0.5)
            self.norms[1].weight.fill_(7.0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.norms[0](self.conv(x)), self.norms[1](self.conv(x))


def _without_fake_quant(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, TorchFakeQuantize):
            module.disable_fake_quant(), module.disable_observer()
    return model.eval()


def test_a_conv_shared_by_two_norms_keeps_the_last_norm_only() -> None:
    net = SharedConv().eval()
    model = _without_fake_quant(_torchs(net, QConfigMapping().set_global(X86)))
    first, second = model(X)
    torch.testing.assert_close(first, second)  # both went through the norm of gamma 7
    assert not torch.allclose(first, net(X)[0], atol=0.1)

    prepared = prepare(net, (X,), qconfig=INT8)
    assert prepared.warnings == ()
    for mine, theirs in zip(prepared.model(X), net(X), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


class TwoNorms(SharedConv):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.conv(x)
        return self.norms[0](y), self.norms[1](y)


def test_one_output_into_two_norms_folds_neither() -> None:
    model = _torchs(TwoNorms(), QConfigMapping().set_global(X86))
    assert [type(norm) for norm in model.norms.children()] == [nn.BatchNorm2d] * 2

    prepared = prepare(TwoNorms().eval(), (X,), qconfig=INT8)
    assert prepared.warnings == ()
    assert sorted(len(d.group) for d in prepared.decisions.values()) == [1, 2, 2]


def test_keys_that_were_removed_are_dropped() -> None:
    given = {"additional_fuser_method_mapping": {}, "bogus": 3, "preserved_attributes": ["a"]}
    kept = PrepareCustomConfig.from_dict(given).to_dict()
    assert kept == {"preserved_attributes": ["a"]}

    with pytest.raises(DiagnosticError, match="bogus"):
        prepare(Net(), (X,), qconfig=INT8, prepare={"bogus": 3})

    def fuse(conv: nn.Conv2d, last: nn.Conv2d) -> nn.Module:
        raise AssertionError("never fused: nothing matches")

    mapping = {(nn.Conv2d, nn.Sigmoid): fuse}
    prepare(Net(), (X,), qconfig=INT8, prepare={"additional_fuser_method_mapping": mapping})


def test_training_clamps_where_the_shipped_integers_do_not() -> None:
    """The x86 default trains on 0..127 (reduce_range) and ships quint8, which ends at 255."""
    fake_quant = X86.activation()
    fake_quant(torch.tensor([0.0, 2.0]))
    fake_quant.disable_observer()
    assert fake_quant(torch.tensor([4.0])).item() == pytest.approx(2.0, rel=0.01)
    scale, zero = (t.item() for t in fake_quant.calculate_qparams())
    shipped = torch.quantize_per_tensor(torch.tensor([4.0]), scale, int(zero), torch.quint8)
    assert shipped.dequantize().item() == pytest.approx(4.0, rel=0.01)

    ours = build_fake_quant(QSpec(observer="min_max")).train()
    ours(torch.tensor([-2.0, 2.0]))
    ours.eval()
    for x in (torch.tensor([4.0]), torch.tensor([-4.0]), torch.tensor([1.3])):
        assert ours(x).item() == (ours.quantize(x) * ours.scale).item()


def test_ties_are_decided_by_a_rounded_reciprocal() -> None:
    """torch multiplies by float32(1/scale): x exactly between two levels may fall either way, and
    the runtimes that divide (ONNX QuantizeLinear) give another integer."""
    scale = np.float32(0.0123)
    x = (np.arange(-100, 100).astype(np.float32) + np.float32(0.5)) * scale
    exact = np.rint(x / scale).astype(np.int64)
    theirs = torch.fake_quantize_per_tensor_affine(torch.from_numpy(x), float(scale), 0, -128, 127)
    assert (np.rint(theirs.numpy() / scale).astype(np.int64) != exact).sum() > 10
    ours = fake_quantize(torch.from_numpy(x), torch.tensor([scale]), -128, 127)
    assert np.array_equal(np.rint(ours.numpy() / scale).astype(np.int64), exact)


def test_an_int8_activation_is_left_in_float_without_a_word() -> None:
    """torch's native backend knows quint8 activations alone."""
    activation = TorchFakeQuantize.with_args(
        quant_min=-128, quant_max=127, dtype=torch.qint8, qscheme=torch.per_tensor_symmetric
    )
    qconfig = torch.ao.quantization.QConfig(activation=activation, weight=X86.weight)
    model = _torchs(Net(), QConfigMapping().set_global(qconfig))
    assert not any("post_process" in str(n.target) for n in model.graph.nodes)

    prepared = prepare(Net(), (X,), qconfig=INT8)
    assert sum("post_process" in str(n.target) for n in prepared.model.graph.nodes) == 3


def test_validation_moves_the_ranges() -> None:
    model = _torchs(Net(), QConfigMapping().set_global(X86))
    model(X)
    model.eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model(X * 10)
    assert any(not torch.equal(v, before[k]) for k, v in model.state_dict().items())

    prepared = prepare(Net(), (X,), qconfig=INT8)
    prepared.model(X)
    set_stage(prepared, "qat")
    prepared.model.eval()
    before = {k: v.clone() for k, v in prepared.model.state_dict().items()}
    prepared.model(X * 10)
    assert all(torch.equal(v, before[k]) for k, v in prepared.model.state_dict().items())


def test_one_nan_spoils_a_scale_for_good() -> None:
    bad = torch.tensor([1.0, float("nan")])
    theirs = X86.activation()
    theirs(bad)
    theirs(torch.ones(2))
    assert not torch.isfinite(theirs.activation_post_process.max_val)

    ours: FakeQuantize = build_fake_quant(QSpec())
    ours(bad)
    ours(torch.ones(2))
    assert ours.scale.item() == pytest.approx(1 / 127.5)
