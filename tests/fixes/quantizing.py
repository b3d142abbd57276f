"""QS6xx: how a model is quantized."""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.diag import Diagnostic
from qatspec.graph.deploy import deploy
from qatspec.prepare import prepare, set_stage
from qatspec.quant.build import build_fake_quant
from qatspec.spec import load, warnings
from qatspec.types import Annotation, QSpec
from tests.fixes.following import (
    Case,
    Net,
    Whole,
    X,
    calibrated,
    each,
    only_prepared,
    silent,
    softmax_in_float,
    through,
    told,
    written,
)


def _with(activation: str = "{}", weight: str = "{}") -> dict[str, Any]:
    import yaml

    return {"": {"activation": yaml.safe_load(activation), "weight": yaml.safe_load(weight)}}


def _axis(ch_axis: int | None) -> Any:
    """What is said of a fake-quant of such a rule. A preset of a plugin may hold one that the spec
    language refuses."""
    return lambda: told(lambda: silent(build_fake_quant(QSpec(ch_axis=ch_axis))))


def _plain(m: Any, x: Tensor) -> Tensor:
    return x


def _under(qconfig: Any) -> Any:
    return lambda: through(Net(_plain), qconfig=qconfig)


CASES: list[Case] = []
CASES += each(
    "QS601",
    ("use `ch_axis: 0` for weights", _axis(1), _axis(0)),
    ("leave it out for activations", _axis(1), _axis(None)),
    (
        "use `min_max`, `moving_average`, `percentile` or `mse`",
        _under(_with(weight="{ch_axis: 0, observer: kl}")),
        _under(_with(weight="{ch_axis: 0, observer: min_max}")),
    ),
    (
        "add `scale: <number>`",
        _under(_with(activation="{observer: fixed_scale}")),
        _under(_with(activation="{observer: fixed_scale, scale: 0.1}")),
    ),
    (
        "give a finite scale of at least",
        _under(_with(activation="{observer: fixed_scale, scale: 1.0e-44}")),
        _under(_with(activation="{observer: fixed_scale, scale: 0.01}")),
    ),
)


def _key(key: str, value: Any) -> Any:
    return lambda: through(Net(lambda m, x: m.act(x), act=nn.ReLU()), prepare={key: value})


class QuantRelu(nn.ReLU):
    """A class that replaces torch's."""

    @classmethod
    def from_float(cls, module: nn.Module) -> QuantRelu:
        return cls()


def _convolution(node: Any, context: Any) -> Annotation:
    return Annotation(kind="anchor", has_weight=True)


CASES += each(
    "QS602",
    (
        "write `package.module.name` of an installed plugin",
        _key("additional_quant_pattern", {nn.Conv2d: "nowhere.annotate"}),
        _key("additional_quant_pattern", {nn.Conv2d: _convolution}),
    ),
    (
        "give it a classmethod `from_float(module)`",
        _key("float_to_observed_custom_module_class", {nn.ReLU: nn.ReLU6}),
        _key("float_to_observed_custom_module_class", {nn.ReLU: QuantRelu}),
    ),
    (
        "return a qatspec.api.Annotation from `handler(node, context)`",
        _key("additional_quant_pattern", {nn.Conv2d: lambda node, context: "conv2d"}),
        _key("additional_quant_pattern", {nn.Conv2d: _convolution}),
    ),
)

TRUSTS = {"b": {"quantize_input": False}}
CASES += each(
    "QS603",
    (
        "remove quantize_input: false",
        lambda: through(Net(_plain), modules=TRUSTS),
        lambda: through(Net(_plain), modules={"b": {}}),
    ),
    (
        "prepare the producer too",
        lambda: through(Net(_plain), modules=TRUSTS),
        lambda: through(Net(_plain), modules={"a": {}, **TRUSTS}),
    ),
)


def _tail(m: Any, x: Tensor) -> Tensor:
    return torch.sigmoid(m.b(m.a(x)))


CASES += each(
    "QS604",
    (
        "move what follows the conv into the post-process",
        lambda: through(Whole(_tail), quantize_output=False),
        lambda: through(Whole(lambda m, x: m.b(m.a(x))), quantize_output=False),
    ),
    (
        "or quantize the output",
        lambda: through(Whole(_tail), quantize_output=False),
        lambda: through(Whole(_tail), quantize_output=True),
    ),
)


def _staged(qconfig: str, stage: str, calibrate: bool) -> list[Diagnostic]:
    def act() -> Any:
        prepared = prepare(Net(_plain).eval(), (X,), qconfig=qconfig)
        if calibrate:
            prepared.model(X)
        set_stage(prepared, stage)  # type: ignore[arg-type]
        prepared.model(X)

    return told(act)


CASES += each(
    "QS605",
    (
        "start from a calibration checkpoint",
        lambda: _staged("horizon_calibrated", "qat", False),
        lambda: _staged("horizon_calibrated", "qat", True),
    ),
    (
        "use the qconfig `horizon_qat`",
        lambda: _staged("horizon_calibrated", "qat", False),
        lambda: _staged("horizon_qat", "qat", False),
    ),
)
CASES += each(
    "QS606",
    (
        "put it directly behind its conv or linear",
        lambda: through(Net(lambda m, x: m.norm(x.relu()), norm=nn.BatchNorm2d(4))),
        lambda: through(Net(lambda m, x: m.norm(x).relu(), norm=nn.BatchNorm2d(4))),
    ),
    (
        "with nothing in between",
        lambda: through(Net(lambda m, x: m.norm(x.flip(2)), norm=nn.BatchNorm2d(4))),
        lambda: through(Net(lambda m, x: m.norm(x).flip(2), norm=nn.BatchNorm2d(4))),
    ),
)


def _ruled(*rules: tuple[str, Any]) -> list[Diagnostic]:
    int8 = {"activation": {"dtype": "qint8"}, "weight": {"dtype": "qint8"}}
    int16 = {"activation": {"dtype": "qint16"}, "weight": {"dtype": "qint8"}}
    names = {name: int16 if value is None else value for name, value in rules}
    model = Net(lambda m, x: m.act(x), act=nn.ReLU())
    return told(lambda: calibrated(model, qconfig={"": int8, "module_name": names}).warnings)


CASES += each(
    "QS607",
    ("write the rule for `a`", lambda: _ruled(("act", None)), lambda: _ruled(("a", None))),
    ("or remove it", lambda: _ruled(("act", None)), lambda: _ruled()),
)


def _sums(m: Any, x: Tensor) -> Tensor:
    return torch.cumprod(x, 1)


def _null(name: str, model: nn.Module) -> list[Diagnostic]:
    rules = {"": {"activation": {}, "weight": {}}, "object_type": {name: None}}
    return only_prepared(model, qconfig=rules)


CASES += each(
    "QS608",
    (
        "a `null` rule accepts it",
        lambda: only_prepared(Net(_sums)),
        lambda: _null("torch.cumprod", Net(_sums)),
    ),
    (
        "move it, with what follows it, behind the outputs",
        lambda: through(Net(_sums)),
        lambda: through(Whole(lambda m, x: m.a(x))),
        ("QS506",),
    ),
    (
        "list only the modules before it under `quantize: modules`",
        softmax_in_float,
        lambda: softmax_in_float(modules={"a": {}}),
    ),
)


def _weights(value: float) -> nn.Module:
    net = Net(_plain)
    net.a.weight.data[0] = value
    return net


CASES += each(
    "QS609",
    (
        "start from weights of finite numbers",
        lambda: through(_weights(math.nan)),
        lambda: through(_weights(0.5)),
    ),
)


def _switched(*, on: bool) -> list[Diagnostic]:
    def act() -> Any:
        prepared = calibrated(Net(_plain))
        set_stage(prepared, "eval")
        for module in prepared.model.modules():
            if hasattr(module, "enable_fake_quant"):
                module.enable_fake_quant(False)
        if on:
            set_stage(prepared, "eval")
        deploy(prepared, (X,))

    return told(act)


CASES += each(
    "QS611",
    ('call `set_stage(prepared, "eval")`', lambda: _switched(on=False), lambda: _switched(on=True)),
)


def _masked(m: Any, x: Tensor) -> Tensor:
    scores = x + m.mask
    return F.softmax(scores, -1) * F.relu(scores)


def _masked_alone(m: Any, x: Tensor) -> Tensor:
    return F.softmax(x + m.mask, -1) * F.relu(x)


def _multiplied(m: Any, x: Tensor) -> Tensor:
    p = F.softmax(x, -1) * m.keep
    return p / p.sum(-1, keepdim=True) * F.relu(x)


MASK = torch.zeros(16).index_fill(0, torch.tensor([3]), -math.inf)
CASES += each(
    "QS613",
    (
        "let a softmax alone read the sum",
        lambda: through(Net(_masked, mask=MASK)),
        lambda: through(Net(_masked_alone, mask=MASK)),
    ),
    (
        "multiply the softmax by a mask of 0 and 1 and divide it by its own sum",
        lambda: through(Net(_masked, mask=MASK)),
        lambda: through(Net(_multiplied, keep=(MASK == 0).float())),
    ),
    (
        "let a max pool, amax or relu read the padded tensor",
        lambda: through(Net(lambda m, x: F.pad(x, (1, 1), value=-math.inf) * 2)),
        lambda: through(
            Net(lambda m, x: F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=-math.inf), 3, 1))
        ),
    ),
    (
        "pad with a number inside the range of the values",
        lambda: through(Net(lambda m, x: F.pad(x, (1, 1), value=-1e9) * 2)),
        lambda: through(Net(lambda m, x: F.pad(x, (1, 1), value=-1.0) * 2)),
    ),
    (
        "use a constant inside the range of the values",
        lambda: through(Net(lambda m, x: torch.cat([x, torch.full_like(x, -1e9)], 1)[:, :4])),
        lambda: through(Net(lambda m, x: torch.cat([x, torch.full_like(x, -1.0)], 1)[:, :4])),
    ),
)

SPEC = """
qatspec: 1
name: followed
march: bayes
model: {{type: efficientnet, params: {{num_classes: 3}}, input: {{size: [48, 64], {image}}}}}
data:
  train: {{type: imagefolder_classification, params: {{root: ., made_up: 3}}}}
  val: {{type: imagefolder_classification, params: {{root: ., made_up: 3}}}}
quantize: {{prepare: horizon}}
stages:
  float: {{trainer: {{epochs: 1, optimizer: {{type: sgd, lr: 0.01}}}}}}
  qat: {{trainer: {{epochs: 1, optimizer: {{type: sgd, lr: 0.01}}}}, qconfig: horizon_qat}}
"""


def _image(keys: str) -> list[Diagnostic]:
    def act() -> Any:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "spec.yaml"
            path.write_text(SPEC.format(image=keys))
            return warnings(load(path))

    return told(act)


SHARES = "mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]"
CLIPS = "mean: 0, std: 1, scale: 0.0078125"


def _pixels() -> list[Diagnostic]:
    (found,) = (d for d in _image(SHARES) if d.code == "QS616")
    mean, std = (written(found.help or "", key) for key in ("mean", "std"))
    return _image(f"mean: {mean}, std: {std}")


def _fitting() -> list[Diagnostic]:
    (found,) = (d for d in _image(CLIPS) if d.code == "QS617")
    return _image(f"mean: 0, std: 1, scale: {written(found.help or '', 'scale')}")


CASES += each(
    "QS616",
    (
        "give 3, or one number for all channels",
        lambda: _image("mean: [128, 128]"),
        lambda: _image("mean: 128"),
    ),
    ("which are 255 times as large", lambda: _image(SHARES), _pixels),
)
CASES += each(
    "QS617",
    ("or write `scale: ", lambda: _image(CLIPS), _fitting),
    (
        "delete `scale`, which is then observed",
        lambda: _image(CLIPS),
        lambda: _image("mean: 0, std: 1"),
    ),
)
