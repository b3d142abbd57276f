"""The community tutorial's architecture: lists in and out, shared convs, a batch norm a stride."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.utils import _pytree as pytree

from qatspec.diag import DiagnosticError
from qatspec.graph import DecisionKind
from qatspec.prepare import prepare, set_stage
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.quant.fold import QuantFold
from tests.unit.prepare.conftest import INT8, Backbone, Detector, Head, image

IMAGE = image(2, 3, 32, 32)
MODULES = {
    "backbone": {},
    "head": {"quantize_input": False, "quantize_output": False},
}


def _trained_norms(model: torch.nn.Module) -> None:
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-1, 1)
                module.running_mean.uniform_(-1, 1)
                module.running_var.uniform_(0.5, 2)


@pytest.fixture
def model() -> Detector:
    torch.manual_seed(0)
    model = Detector()
    _trained_norms(model)
    return model.eval()


def test_every_stride_folds_its_own_batch_norm_with_the_one_weight(model: Detector) -> None:
    prepared = prepare(model, (IMAGE,), qconfig=INT8, modules=MODULES)
    head = prepared.model.head
    assert all(isinstance(norm, QuantFold) for norm in head.norms)
    assert [n for n, _ in head.named_parameters() if "conv.weight" in n] == ["conv.weight"]
    with torch.no_grad():  # calibration: nothing is quantized, so this is the float model
        for ours, plain in zip(
            pytree.tree_leaves(prepared.model(IMAGE)), pytree.tree_leaves(model(IMAGE)), strict=True
        ):
            torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)
    set_stage(prepared, "qat")
    prepared.model.loss(prepared.model(IMAGE)).backward()
    assert head.conv.weight.grad.abs().sum() > 0
    assert all(norm.weight.grad.abs().sum() > 0 for norm in head.norms)
    means = torch.stack([norm.running_mean for norm in head.norms])
    assert len(means.unique(dim=0)) == 5


def test_the_head_ends_in_fifteen_int32_tails(model: Detector) -> None:
    prepared = prepare(model, (IMAGE,), qconfig=INT8, modules=MODULES)
    tails = [d for d in prepared.decisions.values() if d.kind is DecisionKind.TAIL]
    assert len(tails) == 15
    last = prepared.model.head.conv_centerness_4_activation_post_process_0
    assert last.disabled and not last.fake_quant_on
    prepared.model(IMAGE)
    set_stage(prepared, "qat")
    assert "fake_quant_enabled=tensor([0]" in repr(last)
    set_stage(prepared, "eval")
    out = prepared.model(IMAGE)
    assert isinstance(out, tuple) and [type(maps) for maps in out] == [list] * 3
    assert [len(maps) for maps in out] == [5, 5, 5]


def test_loss_is_untouched_and_still_there(model: Detector) -> None:
    prepared = prepare(model, (IMAGE,), qconfig=INT8, modules=MODULES)
    assert not any(isinstance(m, FakeQuantize) for m in prepared.model.loss_cls.modules())
    whole = prepare(model, (IMAGE,), qconfig=INT8, quantize_output=False)
    outs = whole.model(IMAGE)
    torch.testing.assert_close(whole.model.loss(outs), model.loss(model(IMAGE)))
    assert list(whole.model.state_dict())[: len(model.state_dict())]
    own = [k for k in whole.model.state_dict() if k in model.state_dict()]
    assert own == list(model.state_dict())


def test_the_model_is_copied_unless_inplace(model: Detector) -> None:
    before = copy.deepcopy(model.state_dict())
    prepare(model, (IMAGE,), qconfig=INT8, modules=MODULES)
    assert type(model.backbone) is Backbone and type(model.head) is Head
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    prepared = prepare(model, (IMAGE,), qconfig=INT8, modules=MODULES, inplace=True)
    assert prepared.model is model and type(model.head) is not Head


def test_an_unquantized_producer_is_named(model: Detector) -> None:
    with pytest.raises(DiagnosticError) as caught:
        prepare(model, (IMAGE,), qconfig=INT8, modules={"head": MODULES["head"]})
    found = caught.value.diagnostics
    assert [d.code for d in found] == ["QS603"] * 5
    assert "`head`" in found[1].message and "`backbone.downs.0.1`" in found[1].message
    with pytest.raises(DiagnosticError, match="not quantized"):
        modules = {"backbone": {"quantize_output": False, "qconfig": {"": None}}}
        prepare(model, (IMAGE,), qconfig=INT8, modules={**modules, "head": MODULES["head"]})


def test_int32_tail_needs_a_conv_at_the_end(model: Detector) -> None:
    with pytest.raises(DiagnosticError, match="`relu` is fused behind") as caught:
        prepare(model, (IMAGE,), qconfig=INT8, modules={"backbone": {"quantize_output": False}})
    assert caught.value.diagnostics[0].code == "QS604"


def test_a_module_that_is_not_there(model: Detector) -> None:
    with pytest.raises(DiagnosticError, match="no module `hed`") as caught:
        prepare(model, (IMAGE,), qconfig=INT8, modules={"hed": {}})
    assert caught.value.diagnostics[0].help == "did you mean `head`?"


def test_copied_convs_train_apart_and_start_alike(model: Detector) -> None:
    from qatspec.quant.state import fit_state

    prepared = prepare(
        model, (IMAGE,), qconfig=INT8, modules=MODULES, prepare={"shared_conv": "copy"}
    )
    head = prepared.model.head
    assert {"conv", "conv_1", "conv_4"} <= {name for name, _ in head.named_children()}
    fitted = fit_state(prepared.model, Detector().state_dict())
    assert fitted.missing == () and fitted.unexpected == ()
    assert torch.equal(fitted.state["head.conv_4.weight"], fitted.state["head.conv.weight"])
    set_stage(prepared, "qat")
    sum(t.square().sum() for t in pytree.tree_leaves(prepared.model(IMAGE))).backward()
    assert not torch.equal(head.conv.weight.grad, head.conv_4.weight.grad)


def test_modules_inside_one_another_are_refused(model: Detector) -> None:
    with pytest.raises(DiagnosticError, match=r"`backbone\.stem` lies inside"):
        prepare(model, (IMAGE,), qconfig=INT8, modules={"backbone": {}, "backbone.stem": {}})


def test_a_module_with_two_names_is_prepared_under_both(model: Detector) -> None:
    model.add_module("alias", model.head)
    prepared = prepare(model, (IMAGE,), qconfig=INT8, modules=MODULES)
    assert prepared.model.alias is prepared.model.head
