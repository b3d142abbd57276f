"""Rules of the qconfig, as they reach weights, activations, warnings and decisions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from qatspec.graph import Prepared
from qatspec.prepare import prepare
from qatspec.quant.modules import QuantConv2d
from qatspec.types import QConfig, QSpec
from tests.unit.prepare.conftest import INT8, image

INT16 = QConfig(activation=QSpec(dtype="qint16"), weight=QSpec(dtype="qint16", ch_axis=0))
INT4 = QConfig(activation=QSpec(dtype="qint4"), weight=QSpec(dtype="qint4", ch_axis=0))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU())
        self.body = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for conv in self.body:
            x = conv(x) * x
        return x


def _prepared(**rules: object) -> Prepared:
    return prepare(Net(), (image(),), qconfig=rules.pop("rules", None) or rules)


def _dtypes(prepared: Prepared, node: str) -> tuple[str | None, str | None]:
    d = prepared.decisions[f":{node}"]
    return (
        d.activation.dtype if d.activation else None,
        d.weight.dtype if d.weight else None,
    )


@pytest.mark.parametrize(
    ("rules", "stem", "first"),
    [
        ({"": INT8}, "qint8", "qint8"),
        ({"": INT8, "module_name": {"stem": INT16}}, "qint16", "qint8"),
        ({"": INT8, "module_name_regex": {r"body\.[0-9]": INT4}}, "qint8", "qint4"),
        ({"": INT8, "object_type": {"torch.nn.Conv2d": INT16}}, "qint16", "qint16"),
        ({"": INT8, "object_type": {nn.Conv2d: INT16}, "module_name": {"stem": INT4}},
         "qint16", "qint16"),
        ({"": INT8, "object_type": {nn.Conv2d: INT16}, "module_name": {"stem": INT4},
          "precedence": "module_name_first"}, "qint4", "qint16"),
        ({"module_name_regex": {"stem": INT8}}, "qint8", None),
        ({"": INT8, "module_name": {"body": None}}, "qint8", None),
        ({"": INT8, "module_name_object_type_order": [["body", nn.Conv2d, 0, INT4]]},
         "qint8", "qint4"),
    ],
)  # fmt: skip
def test_one_rule_decides_weight_and_activation(rules, stem: str, first: str | None) -> None:
    prepared = prepare(Net(), (image(),), qconfig=rules)
    assert _dtypes(prepared, "stem_0") == (stem, stem)
    activation, weight = _dtypes(prepared, "body_0")
    assert weight == first
    assert first is None or activation == first
    fold = prepared.model.stem[1]
    assert fold.weight_fake_quant.qspec.dtype == stem
    assert isinstance(prepared.model.body[0], QuantConv2d) == (first is not None)


def test_functions_are_addressed_by_type_in_any_spelling() -> None:
    for name in ("torch.mul", "operator.mul", torch.mul, "mul"):
        prepared = prepare(Net(), (image(),), qconfig={"": INT8, "object_type": {name: INT16}})
        assert _dtypes(prepared, "mul") == ("qint16", None)


def test_a_rule_that_matches_nothing_is_a_warning() -> None:
    rules = {
        "": INT8,
        "module_name": {"stem.0": INT16, "tail": INT8},
        "object_type": {nn.Linear: INT8},
        "module_name_regex": {"stem.*": INT8, "st.m": INT8},
    }
    prepared = prepare(Net(), (image(),), qconfig=rules)
    found = [w for w in prepared.warnings if w.code == "QS312"]
    assert [w.message.split("`")[1] for w in found] == ["torch.nn.Linear", "tail"]


def test_a_rule_shared_by_modules_needs_to_match_in_one() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = Net(), nn.Sequential(nn.Conv2d(3, 3, 1))

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x))

    rules = {"": INT8, "module_name": {"stem": INT16, "nowhere": INT16}}
    prepared = prepare(
        Two(), (image(),), qconfig=rules, modules={"a": {}, "b": {"quantize_input": False}}
    )
    assert [w.message.split("`")[1] for w in prepared.warnings] == ["nowhere"]


def test_contending_rules_are_a_warning_that_names_both() -> None:
    rules = {"": INT8, "object_type": {nn.Conv2d: INT16}, "module_name": {"stem": INT4}}
    prepared = prepare(Net(), (image(),), qconfig=rules)
    found = [w for w in prepared.warnings if w.code == "QS314"]
    assert len(found) == 1
    assert "torch.nn.Conv2d" in found[0].message and "`stem`" in found[0].message


def test_a_rule_on_a_fused_member_warns() -> None:
    prepared = prepare(Net(), (image(),), qconfig={"": INT8, "object_type": {nn.ReLU: None}})
    assert [w.code for w in prepared.warnings] == ["QS607"]
    assert _dtypes(prepared, "stem_0") == ("qint8", "qint8")


def test_weight_alone_and_activation_alone() -> None:
    weights = QConfig(activation=None, weight=QSpec(ch_axis=0))
    prepared = prepare(Net(), (image(),), qconfig={"": INT8, "module_name": {"body.0": weights}})
    assert (
        prepared.decisions[":body_0"].reason == "float: the rule quantizes the weight alone; "
        "then observed: a quantized op reads it"
    )
    assert isinstance(prepared.model.body[0], QuantConv2d)
    activations = QConfig(activation=QSpec(), weight=None)
    prepared = prepare(Net(), (image(),), qconfig=activations)
    assert type(prepared.model.body[0]) is nn.Conv2d
    assert type(prepared.model.stem[1]) is nn.BatchNorm2d
    assert prepared.decisions[":stem_0"].fake_quant is not None


def test_presets_by_name_and_alias() -> None:
    one = prepare(Net(), (image(),), qconfig="horizon_calibration")
    other = prepare(Net(), (image(),), qconfig="HorizonCalibrationQConfig")
    assert dict(one.decisions) == dict(other.decisions)
    assert one.decisions[":stem_0"].activation.observer == "percentile"


def test_a_rule_for_one_call_of_an_op_decides_that_call_alone() -> None:
    """module_name_object_type_order matches by the call's index, which prepare must pass."""

    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Module()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = x + self.conv(x).sigmoid()
            return (y + x).tanh() + y

    order = [["", "torch.add", 1, INT4]]
    prepared = prepare(
        Sums(), (image(),), qconfig={"": INT8, "module_name_object_type_order": order}
    )
    sums = [d for d in prepared.decisions.values() if d.op == "add"]
    dtypes = [d.activation.dtype for d in sums if d.activation]
    assert dtypes == ["qint8", "qint4", "qint8"]
