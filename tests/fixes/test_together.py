"""Refused modules in one net: each line of each is reported in one run, and no other line."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from tests.fixes import refused_parts
from tests.fixes.following import through
from tests.fixes.refused_parts import PARTS, marked

X = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
DRAWS = [random.Random(seed).sample(PARTS, 5) for seed in range(40)]


def reported(net: nn.Module) -> set[tuple[str, int]]:
    """(code, line) of each error in the file of the modules."""
    found = [d for d in through(net, X, "bayes") if d.severity == "error"]
    places = [(str(d.code), s) for d in found for s in (d.span, *(n.span for n in d.notes))]
    return {(code, s.line) for code, s in places if s and s.file == refused_parts.__file__}


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_each_alone(part: type[nn.Module]) -> None:
    assert reported(nn.Sequential(part())) == marked(part)


@pytest.mark.parametrize("parts", DRAWS, ids=lambda ps: "-".join(p.__name__ for p in ps))
def test_several(parts: list[type[nn.Module]]) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Sequential(*(part() for part in parts)), nn.Conv2d(4, 4, 1))
    assert reported(net) == set().union(*map(marked, parts))
