"""One run reports every place that is refused, one diagnostic a cause."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.diag import Diagnostic, DiagnosticError
from qatspec.diag.collect import STOPPED
from qatspec.lower import NotLowered, lower
from qatspec.prepare import Refused, pipeline, prepare, set_stage

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def refusal(model: nn.Module, **settings: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        prepare(model, (X,), qconfig="horizon_qat", **settings)
    return caught.value


def marked(model: nn.Module) -> set[tuple[str, int]]:
    """(code, line) of each line of the model's classes that ends in a comment with codes."""
    found = set()
    for cls in {type(m) for m in model.modules() if type(m).__module__ == __name__}:
        lines, first = inspect.getsourcelines(cls)
        for number, line in enumerate(lines, first):
            found |= {(code, number) for code in line.partition("#")[2].split() if code[:2] == "QS"}
    return found


def lines_of(diagnostics: tuple[Diagnostic, ...]) -> set[tuple[str, int]]:
    places = [(d.code, [d.span, *(note.span for note in d.notes)]) for d in diagnostics]
    return {(str(code), span.line) for code, spans in places for span in spans if span}


class Decides(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        assert (x < 1e9).all()  # QS501
        if torch.isnan(x).any():  # QS501
            raise ValueError
        if x.max() > 1:  # QS501
            x = x / x.max()
        while x.mean() > 3:  # QS501
            x = x / 2
        for _ in range(int(x.sum())):  # QS501
            x = x + 1
        n = x.argmax().item()
        x = x + int(n)  # QS501
        return x * float(x.mean())  # QS501


class Arrays(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * float(np.asarray(x.detach()).mean())  # QS502


class Draws(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(3, track_running_stats=False)
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(x, 0.2)  # QS510
        x = self.bn(x)  # QS606
        return torch.cumprod(self.conv(x), 1)  # QS608


class Writes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        first = y[:, :1]
        y += 1  # QS502
        with torch.no_grad():
            z = y + first
            z.clamp_(0, 6)  # QS515
        mask = torch.tensor([0.0, float("-inf"), 0.0]).view(1, 3, 1, 1)
        z = z + mask  # QS613
        return z / z.shape[0]  # QS512


class Halves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        y = self.conv(x.double().float()) + x.double()  # QS509 QS608
        return torch.cumprod(y.float(), 1) + self.conv(x)  # QS608


MODELS: dict[str, Callable[[], nn.Module]] = {
    "decisions": Decides,
    "decisions in a part": lambda: nn.Sequential(Decides(), nn.Conv2d(3, 3, 1)),
    "an array in a part, and what follows": lambda: nn.Sequential(Arrays(), Draws()),
    "everything": lambda: nn.Sequential(Arrays(), Draws(), Arrays(), Decides()),
    "random numbers": Draws,
    "writes": Writes,
    "another dtype": Halves,
}


@pytest.mark.parametrize("name", MODELS)
def test_every_line_is_reported(name: str) -> None:
    model = MODELS[name]().eval()
    error = refusal(model)
    assert lines_of((*error.diagnostics, *error.warnings)) == marked(model)
    assert all(d.severity == "error" for d in error.diagnostics)


def test_a_cause_at_many_places_is_one_diagnostic() -> None:
    error = refusal(nn.Sequential(*(Draws() for _ in range(30))))
    assert [d.code for d in error.diagnostics] == ["QS510"]
    (norms,) = (d for d in error.warnings if d.code == "QS615")
    assert "30 batch norms have no running statistics" in norms.message


def test_a_cause_in_many_modules_names_them() -> None:
    with mock.patch.object(pipeline, "keep_statistics", return_value=[]):  # as for a spec
        error = refusal(nn.Sequential(*(Draws() for _ in range(30))))
    (norm,) = (d for d in error.diagnostics if d.code == "QS503")
    assert norm.message.endswith("; here and at 29 more places")
    (note,) = norm.notes
    assert note.text == (
        "also `1.bn`, `2.bn`, `3.bn`, `4.bn`, `5.bn`, `6.bn` and 23 more on the same line"
    )


def test_an_error_that_ends_tracing_says_that_more_may_follow() -> None:
    (found,) = refusal(Arrays()).diagnostics
    assert found.code == "QS502" and found.notes == (STOPPED,)


def test_other_modules_are_prepared_and_searched() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = Arrays(), Draws()

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x))

    model = Net().eval()
    error = refusal(model, modules={"a": {}, "b": {}})
    assert lines_of((*error.diagnostics, *error.warnings)) == marked(model)


def test_what_depends_on_a_refusal_is_not_reported() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            rows = x.view(-1)[: int((x > -99).sum())]  # QS501
            return rows.view(2, 3, 8, 8)[0] + x.view(x.shape)

    model = Net()
    assert lines_of(refusal(model).diagnostics) == marked(model)


class Chain(nn.Module):
    """Ops without integers between ops with."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3, 3, 1) for _ in range(3))
        self.gru = nn.GRU(8, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.b(torch.cumprod(self.a(x), 1))  # QS701
        y = torch.cumprod(x, 1)  # QS701
        x = self.c(x.flatten(0, 1).view(x.shape))
        x = self.gru(x[:, 0])[0]  # QS701
        return x, y


def test_lowering_goes_on_behind_what_it_refuses() -> None:
    model = Chain().eval()
    prepared = prepare(model, (X,), qconfig="horizon_qat")
    with torch.no_grad():
        prepared.model(X)
    set_stage(prepared, "eval")
    with pytest.raises(NotLowered) as caught:
        lower(prepared, (X,))
    assert lines_of(caught.value.diagnostics) == marked(model)
    assert [op.kind for op in caught.value.part.ops].count("conv") == 3


def test_errors_before_tracing_come_together() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1).half()
            self.parts = nn.ModuleDict({"in": nn.Conv2d(3, 3, 1)})
            self.scripted = torch.jit.script(nn.Conv2d(3, 3, 1))

        def forward(self, x: Tensor) -> Tensor:
            return x

    with pytest.raises(DiagnosticError) as caught:
        prepare(Net(), (X,), qconfig="horizon_qat", modules={"conv": {}, "parts": {}, "none": {}})
    assert {d.code for d in caught.value.diagnostics} == {"QS505", "QS509", "QS516"}
