"""Cases of diagnostics whose fix is followed, and the way that a model takes through qatspec."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import yaml
from torch import Tensor, nn

from qatspec.diag import Diagnostic, DiagnosticError
from qatspec.export import export_qat_onnx
from qatspec.export.host import export_host
from qatspec.graph import Prepared
from qatspec.graph.deploy import deploy
from qatspec.lower.split import host_parts
from qatspec.prepare import Refused, prepare, set_stage
from qatspec.registry import registry
from qatspec.stages.foresight import further_refusals, integer_refusals

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
Found = Iterable[Diagnostic]


@dataclass(frozen=True)
class Case:
    """A way to a diagnostic, and what its help says to do about it.

    code     of the diagnostic.
    follows  words of its help (or of its page, where it has none) that `fixed` follows.
    refused  returns what is reported before the fix, fixed: after it.
    allowed  codes of warnings that may remain.
    """

    code: str
    follows: str
    refused: Callable[[], Found]
    fixed: Callable[[], Found]
    allowed: tuple[str, ...] = ()


class Net(nn.Module):
    """Two convolutions with a step between them; the step may use the module's parts."""

    def __init__(self, step: Callable[[Any, Tensor], Any], **parts: Any) -> None:
        super().__init__()
        self.a, self.b, self.step = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), step
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Any:
        return self.b(self.step(self, self.a(x)))


class Whole(Net):
    """The step has the whole forward."""

    def forward(self, x: Tensor) -> Any:
        return self.step(self, x)


def told(act: Callable[[], Any]) -> list[Diagnostic]:
    """What an action raises or returns as diagnostics."""
    try:
        result = act()
    except DiagnosticError as error:
        return [*error.diagnostics, *(error.warnings if isinstance(error, Refused) else ())]
    return list(result or ())


def silent(result: Any) -> list[Diagnostic]:
    """Nothing: what `told` reports of an action that passes."""
    return []


def calibrated(
    model: nn.Module, x: Any = X, qconfig: Any = "horizon_qat", **settings: Any
) -> Prepared:
    """The model after prepare and one batch of calibration; its batch norms saw a batch."""
    torch.manual_seed(0)
    inputs = x if isinstance(x, tuple) else (x,)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.num_batches_tracked == 0:
            module.num_batches_tracked += 1
    prepared = prepare(model.eval(), inputs, qconfig=qconfig, **settings)
    with torch.no_grad():
        prepared.model(*inputs)
    return prepared


def only_prepared(model: nn.Module, x: Any = X, **settings: Any) -> list[Diagnostic]:
    """What is reported of a model that nothing converts."""
    return told(lambda: calibrated(model, x, **settings).warnings)


def through(
    model: nn.Module, x: Any = X, march: str = "onnxruntime", **settings: Any
) -> list[Diagnostic]:
    """What is reported of a model on its way to integers, ONNX files and a march, as `check` does:
    what can be prepared of a refused model goes on."""
    return told(lambda: _through(model, x, march, **settings))


def _through(model: nn.Module, x: Any, march: str, **settings: Any) -> list[Diagnostic]:
    try:
        prepared = calibrated(model, x, march=march, **settings)
    except Refused as error:
        further = [replace(d, severity="error") for d in further_refusals(error, march)]
        return [*error.diagnostics, *error.warnings, *further]
    set_stage(prepared, "eval")
    found = [*prepared.warnings, *integer_refusals(prepared, march)]
    if not any(d.severity == "error" for d in found):
        with tempfile.TemporaryDirectory() as folder:
            export_qat_onnx(prepared, Path(folder) / "qat.onnx")
            host = host_parts(deploy(prepared, prepared.example_inputs))
            export_host(prepared, host, Path(folder), "net")
    return found


def softmax_in_float(**settings: Any) -> list[Diagnostic]:
    """What is reported of a softmax behind a convolution, for a march that leaves it in float."""
    record = replace(registry().march("bayes"), float_ops={"softmax": "the chip has none"})
    model = Whole(lambda m, x: m.a(x).softmax(1))
    with mock.patch.object(registry(), "march", lambda name: record):
        return through(model, march="bayes", prepare="horizon", **settings)


def codes(found: Found) -> list[str]:
    return [str(d.code) for d in found]


def errors(found: Found) -> list[str]:
    return [f"{d.code}: {d.message}" for d in found if d.severity == "error"]


def written(text: str, key: str) -> Any:
    """The YAML of a key that a help text proposes in backticks: `prepare: {wrap: [...]}`."""
    for fragment in re.findall(r"`([^`]+)`", text):
        if fragment.startswith(f"{key}:"):
            return yaml.safe_load(fragment)[key]
    raise AssertionError(f"no `{key}: ...` in: {text}")


def proposed(found: Found, code: str, key: str) -> Any:
    """`written` of the first diagnostic of a code."""
    return written(next(d.help or "" for d in found if d.code == code), key)


def module_of(step: Callable[[Tensor], Any], *parts: nn.Module) -> type[nn.Module]:
    """A class of modules that compute a step."""

    class Step(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList(parts)

        def forward(self, x: Tensor) -> Any:
            return step(x)

    return Step


def sequence(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers)


def each(code: str, *rows: Sequence[Any]) -> list[Case]:
    """Cases of one code: (follows, refused, fixed[, allowed])."""
    return [Case(code, *row) for row in rows]
