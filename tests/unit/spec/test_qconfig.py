"""Rules from Python: objects are held to what the spec language takes, as mappings are."""

from dataclasses import asdict

import pytest

from qatspec.diag import DiagnosticError
from qatspec.spec.qconfig import qconfig_rules
from qatspec.types import QConfig, QSpec

WRONG = [
    ({"dtype": "qint0"}, "QS204"),
    ({"dtype": "int8"}, "QS204"),
    ({"fake_quant": "lsqq"}, "QS204"),
    ({"observer": "minmax"}, "QS301"),
    ({"bins": -3}, "QS205"),
    ({"averaging_constant": 2.0}, "QS205"),
    ({"scale": "big"}, "QS203"),
]


@pytest.mark.parametrize(("keys", "code"), WRONG)
@pytest.mark.parametrize("field", ["activation", "weight"])
@pytest.mark.parametrize("form", ["object", "rule", "object in a mapping", "mapping"])
def test_a_wrong_value_is_named_with_its_place(keys, code, field, form):
    qspec = QSpec(**keys)
    at = f"/{field}/{next(iter(keys))}"
    value = {
        "object": QConfig(**{field: qspec}),
        "rule": {"object_type": {"torch.nn.Conv2d": QConfig(**{field: qspec})}},
        "object in a mapping": {"": {field: qspec}},
        "mapping": {"": {field: asdict(qspec)}},
    }[form]
    with pytest.raises(DiagnosticError) as caught:
        qconfig_rules(value)
    (found,) = caught.value.diagnostics
    assert found.code == code and found.at.endswith(at)


def test_something_that_is_no_qspec():
    with pytest.raises(DiagnosticError) as caught:
        qconfig_rules(QConfig(activation="qint8"))
    assert caught.value.diagnostics[0].code == "QS203"


def test_objects_and_mappings_give_equal_rules():
    config = QConfig(activation=QSpec(dtype="qint16"), weight=None)
    (of_object,) = qconfig_rules({"": config}).rules
    (of_mapping,) = qconfig_rules({"": {"activation": {"dtype": "qint16"}, "weight": None}}).rules
    assert of_object == of_mapping
