"""QS520 and QS618: inputs by the names of forward's arguments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

from torch import nn

from qatspec.diag import Diagnostic
from qatspec.prepare.inputs import forward_inputs
from qatspec.spec import TensorSpec, load, warnings
from tests.fixes.following import Case, each, silent, told

SPEC = """
qatspec: 1
name: followed
march: bayes
model: {{type: efficientnet, params: {{num_classes: 3}}, inputs: {{{inputs}}}}}
data:
  train: {{type: imagefolder_classification, params: {{root: ., made_up: 3}}}}
  val: {{type: imagefolder_classification, params: {{root: ., made_up: 3}}}}
quantize: {{prepare: horizon}}
stages:
  float: {{trainer: {{epochs: 1, optimizer: {{type: sgd, lr: 0.01}}}}}}
"""


def _stated(inputs: str) -> Callable[[], list[Diagnostic]]:
    """What is said of a spec with these inputs."""

    def act() -> Any:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "spec.yaml"
            path.write_text(SPEC.format(inputs=inputs))
            return warnings(load(path))

    return lambda: told(act)


def _named(forward: Any, *names: str) -> Callable[[], list[Diagnostic]]:
    """What is said of vectors of these names beside a forward."""
    model = type("Net", (nn.Module,), {"forward": forward})()
    inputs = {name: TensorSpec(shape=(3,)) for name in names}
    return lambda: told(lambda: silent(forward_inputs(SimpleNamespace(inputs=inputs), model)))


CASES: list[Case] = []
CASES += each(
    "QS520",
    (
        "add `b: {shape: [...]}`",
        _named(lambda self, a, b: a, "a"),
        _named(lambda self, a, b: a, "a", "b"),
    ),
    ("delete it", _named(lambda self, a: a, "a", "b"), _named(lambda self, a: a, "a")),
    (
        "did you mean `alpha`?",
        _named(lambda self, alpha: alpha, "alpa"),
        _named(lambda self, alpha: alpha, "alpha"),
    ),
    (
        "move the argument behind",
        _named(lambda self, a, x=None, b=None: a, "a", "b"),
        _named(lambda self, a, b=None, x=None: a, "a", "b"),
    ),
    (
        "def forward(self, a, b)",
        _named(lambda self, *inputs: inputs, "a", "b"),
        _named(lambda self, a, b: a, "a", "b"),
    ),
    (
        "by position",
        _named(lambda self, a, *, b: a, "a", "b"),
        _named(lambda self, a, b: a, "a", "b"),
    ),
)
CASES += each(
    "QS618",
    (
        "write `channels: 1`",
        _stated("x: {size: [48, 64], format: gray}"),
        _stated("x: {size: [48, 64], format: gray, channels: 1}"),
    ),
    (
        "in place of `size`, `channels` and",
        _stated("x: {size: [48, 64], format: gray}"),
        _stated("x: {shape: [3, 48, 64]}"),
    ),
    (
        "write `range: [0, 99]`",
        _stated("x: {size: [48, 64]}, ids: {shape: [16], dtype: int64, range: [99, 0]}"),
        _stated("x: {size: [48, 64]}, ids: {shape: [16], dtype: int64, range: [0, 99]}"),
    ),
    (
        "delete `scale`",
        _stated("x: {size: [48, 64]}, ids: {shape: [16], dtype: int64, scale: 0.5}"),
        _stated("x: {size: [48, 64]}, ids: {shape: [16], dtype: int64}"),
    ),
)


def _handed(march: str, convert: str) -> list[Diagnostic]:
    """What is said of a spec of one picture for a march, with these options of convert."""
    text = SPEC.format(inputs="x: {size: [32, 32]}").replace("inputs: {x: ", "input: ")
    text = text.replace("[32, 32]}}}", "[32, 32]}}").replace("march: bayes", f"march: {march}")
    text += "  qat: {trainer: {epochs: 1, optimizer: {type: sgd, lr: 0.01}}, "
    text += f"qconfig: horizon_qat}}\n  convert: {convert}\n"

    def act() -> Any:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "spec.yaml"
            path.write_text(text)
            return warnings(load(path))

    return told(act)


CASES += each(
    "QS728",
    (
        "write `march: bayes`",
        lambda: _handed("onnxruntime", "{handoff: horizon}"),
        lambda: _handed("bayes", "{handoff: horizon}"),
    ),
    (
        "or delete `handoff`",
        lambda: _handed("onnxruntime", "{handoff: horizon}"),
        lambda: _handed("onnxruntime", "{}"),
    ),
)
