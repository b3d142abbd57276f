"""What `check` looks for, and the command itself."""

from __future__ import annotations

from qatspec.prepare import prepare
from qatspec.prepare.findings import SharedModule, findings
from tests.unit.prepare.conftest import INT8, Detector, image


def test_tails_shared_modules_and_float_parts() -> None:
    modules = {"backbone": {}, "head": {"quantize_input": False, "quantize_output": False}}
    prepared = prepare(Detector(), (image(2, 3, 32, 32),), qconfig=INT8, modules=modules)
    found = findings(prepared)
    assert len(found.tails) == 15
    assert SharedModule("head.conv", calls=5, folds=5) in found.shared
    assert SharedModule("head.conv_cls", calls=5, folds=0) in found.shared
    assert found.float_parts == ("loss_cls",)
    assert found.strays == ()


def test_a_fake_quant_outside_the_prepared_modules_is_found() -> None:
    prepared = prepare(Detector(), (image(2, 3, 32, 32),), qconfig=INT8, modules={"backbone": {}})
    stray = prepared.model.backbone.x_activation_post_process_0
    prepared.model.loss_cls.add_module("stray", stray)
    assert findings(prepared).strays == ("loss_cls.stray",)
