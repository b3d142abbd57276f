"""Parts and attributes of a model that are named as what torch.fx keeps of a traced module."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from qatspec.prepare import prepare
from tests.unit.prepare.test_preconditions import X, codes, refusal, works


class _PartNamed(nn.Module):
    """A convolution whose output a part of a chosen name changes."""

    def __init__(self, name: str, part: object) -> None:
        super().__init__()
        self.conv, self.name = nn.Conv2d(3, 4, 1), name
        setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        part = getattr(self, self.name)
        return part(self.conv(x)) if isinstance(part, nn.Module) else self.conv(x) * part


FX_NAMES = sorted(
    name
    for name in {*dir(torch.fx.GraphModule), "meta"}.difference(dir(nn.Module()))
    if not name.startswith("_")
)


@pytest.mark.parametrize("name", FX_NAMES)
@pytest.mark.parametrize("kind", ["module", "parameter"])
def test_names_that_torch_fx_uses(name: str, kind: str) -> None:
    part = nn.Conv2d(4, 4, 1) if kind == "module" else nn.Parameter(torch.ones(4, 1, 1))
    if (name, kind) != ("code", "module"):
        error = refusal(_PartNamed(name, part))
        assert codes(error) == {"QS507"} and f"`{name}`" in str(error)
        assert "nn.Sequential(model)" in (error.diagnostics[0].help or "")
        works(nn.Sequential(_PartNamed(name, part)))
    else:
        works(_PartNamed(name, part))


class _AttributeNamed(nn.Module):
    """A convolution whose loss is read with a factor, and a helper that builds it alone reads."""

    def __init__(self, name: str, value: object = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        if value is not None:
            setattr(self, name, value)
        self.twice = 2 * self._factor(name)

    def _factor(self, name: str) -> float:
        value = getattr(self, name)
        return value["factor"] if isinstance(value, dict) else value

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def _reading(name: str, *, reads: bool, of_class: bool) -> type[_AttributeNamed]:
    """_AttributeNamed with a loss, which reads the attribute by a comprehension in a helper."""
    scope: dict[str, Any] = {}
    exec(
        f"def factor(self):\n    return [self.{name if reads else 'twice'} for _ in 'a'][0]\n"
        "def loss(self, x):\n    f = self.factor\n"
        "    return self(x).sum() * (f['factor'] if isinstance(f, dict) else f)",
        scope,
    )
    members = {"loss": scope["loss"], "factor": property(scope["factor"])}
    return type("Named", (_AttributeNamed,), {**members, **({name: 3.0} if of_class else {})})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 3.0) for name in (*FX_NAMES, "node_lines", "_graph", "_origin", "shape_env")),
        *((name, value) for name in ("meta", "graph") for value in ({"factor": 3.0}, None)),
    ],
)
def test_attributes_named_as_those_of_torch_fx(name: str, value: object) -> None:
    """`meta` is the model's; of the others, those that `loss` reads are refused by name."""
    for reads in (True, False):
        model = _reading(name, reads=reads, of_class=value is None)(name, value)
        if reads and name != "meta":
            error = refusal(model)
            assert codes(error) == {"QS507"} and f"`{name}`" in str(error)
            assert error.diagnostics[0].help == "rename these attributes"
            continue
        prepared = prepare(model, (X,), qconfig="horizon_qat")
        for copied in (prepared.model, copy.deepcopy(prepared.model)):
            total = copied.forward(X).sum() * (3.0 if reads else 6.0)
            torch.testing.assert_close(copied.loss(X), total)
