"""Networks and files of weights as other projects write them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from qatspec.api import DiagnosticError, load_state

State = dict[str, torch.Tensor]


class Net(nn.Module):
    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, classes)


class Holder(nn.Module):
    """A model of a plugin that holds the network as a child, as `Classifier` does."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.net = Net(classes)


class Config(dict[str, Any]):
    """A subclass of dict, as configurations of many projects are."""


def trained(seed: int = 1, classes: int = 2) -> State:
    torch.manual_seed(seed)
    net = Net(classes)
    return {
        k: torch.rand_like(v) + 0.5 if v.is_floating_point() else v + 3
        for k, v in net.state_dict().items()
    }


def under(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def save(folder: Path, content: Any, name: str = "weights.pth", **options: Any) -> Path:
    torch.save(content, folder / name, **options)
    return folder / name


def demand_loaded(model: nn.Module, state: State) -> None:
    """Every number is that of `state`, under the model's names in the same order."""
    pairs = zip(model.state_dict().items(), state.items(), strict=True)
    for (key, value), (name, expected) in pairs:
        assert key.removeprefix("net.") == name
        torch.testing.assert_close(value, expected.to(value.dtype), rtol=0, atol=0)


def refused(code: str, words: str, *arguments: Any, **settings: Any) -> str:
    with pytest.raises(DiagnosticError) as caught:
        load_state(*arguments, **settings)
    (found,) = caught.value.diagnostics
    assert found.code == code and re.search(words, found.message), found
    return str(found.help)


AVERAGE, RAW = trained(2), trained(3)
