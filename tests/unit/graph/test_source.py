"""Places of the model's code, from names that are the same on every machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from qatspec_vision import layers

from qatspec.diag import Span
from qatspec.graph.source import line_span
from qatspec.graph.trace import trace
from qatspec.registry.plugins import load_file

NET = """\
from torch import nn

class Net(nn.Module):
    def forward(self, x):
        return x * 2
"""


def test_a_line_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model" / "my_net.py"
    file.parent.mkdir()
    file.write_text(NET)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "my_net.py").write_text("# another file of that name\n" * 9)
    monkeypatch.chdir(elsewhere)
    module: Any = load_file(file).module
    graph = trace(module.Net(), (torch.zeros(1),))
    (place,) = {n.meta["source"] for n in graph.nodes if n.op == "call_function"}
    assert place == "my_net.py:5"
    assert line_span(place) == Span(str(file), 5, 9, 5, 21)


def test_a_line_of_a_package() -> None:
    found = line_span("qatspec_vision/layers.py:1")
    assert found is not None and found.file == layers.__file__


def test_places_that_nobody_loaded() -> None:
    assert line_span("") is None
    assert line_span("gone.py:3") == Span("gone.py", 3, 1, 3, 1)
