"""Names of torch in rules and prepare: what is known, what was meant, what is sure."""

import pytest

from qatspec.diag import DiagnosticError
from qatspec.hookspecs import hookimpl
from qatspec.registry import Plugin
from qatspec.spec import prepare_config, qconfig_rules
from qatspec.spec.torch_names import check_classes, check_op
from qatspec.types import QuantHandler
from tests.diagnostics.plugin import fake_registry


class WithAnOp:
    @hookimpl
    def qatspec_quant_handlers(self):
        return [QuantHandler(name="swirl", summary="s", ops=("swirl",), annotate=lambda n, c: None)]


NAMES = fake_registry(Plugin("swirls", "d", "1", WithAnOp()))


@pytest.mark.parametrize(
    "name",
    ["torch.nn.Conv2d", "torch.add", "operator.add", "torch.Tensor.view", "conv2d", "swirl",
     "torch.nn.functional.relu", "torch.nn.modules.conv.Conv2d", "my_net.blocks.Conv"],
)  # fmt: skip
def test_known(name):
    assert not list(check_op(name, "/x", NAMES))


@pytest.mark.parametrize(
    ("name", "meant", "sure"),
    [
        ("torch.nn.Conv2D", "torch.nn.Conv2d", True),
        ("torch.nn.functional.add", "torch.add", True),
        ("nn.Conv2d", "torch.nn.Conv2d", True),
        ("F.relu", "torch.nn.functional.relu", True),
        ("torch.Conv2d", "torch.nn.Conv2d", True),
        ("Conv2d", "torch.nn.Conv2d", True),
        ("conv2D", "conv2d", True),
        ("swril", "swirl", False),
        ("torch.nn.BatchNorm2", "torch.nn.BatchNorm2d", False),
        ("torch.nn.qat.ConvBn2d", "torch.ao.nn.intrinsic.ConvBn2d", False),
        ("torch.nn.Convolution2d", "torch.nn.Conv2d", False),
    ],
)  # fmt: skip
def test_meant(name, meant, sure):
    (found,) = check_op(name, "/x", NAMES)
    assert (found.code, found.help) == ("QS308", f"did you mean `{meant}`?")
    assert (found.fix.text if found.fix else None) == (meant if sure else None)


def test_a_name_like_no_other():
    (found,) = check_op("torch.qqqqqqqqqqqqqqqqq", "/x", NAMES)
    assert found.help == "write the full name, as `torch.nn.Conv2d`"


def test_rules_of_every_form():
    with pytest.raises(DiagnosticError) as caught:
        qconfig_rules(
            {
                "object_type": [["torch.nn.Conv2D", None]],
                "module_name_object_type_order": [["head", "torch.nn.functional.add", 0, None]],
            },
            "/q",
            NAMES,
        )
    assert [d.at for d in caught.value.diagnostics] == [
        "/q/module_name_object_type_order/0/1",
        "/q/object_type/0/0",
    ]


def test_prepares_classes():
    value = {
        "standalone_module_class": [{"class": "torch.nn.Sequental"}, "my.Block"],
        "non_traceable_module_class": ["torch.nn.LSTMM"],
        "additional_fusion_pattern": [[["torch.nn.BatchNorm2D", "torch.nn.Conv2d"], "mine"]],
    }
    with pytest.raises(DiagnosticError) as caught:
        prepare_config(value, "/p", NAMES)
    assert {d.at for d in caught.value.diagnostics} == {
        "/p/standalone_module_class/0/class",
        "/p/non_traceable_module_class/0",
        "/p/additional_fusion_pattern/0/0/0",
    }


def test_keys_of_mappings():
    (found,) = check_classes({"torch.nn.Conv2D": "torch.nn.ReLU"}, "/p", NAMES)
    assert (found.at, found.key) == ("/p/torch.nn.Conv2D", True)
