"""The zoo's graphs, traced once for all tests that only look at them."""

from __future__ import annotations

import pytest
import torch

from qatspec.graph.context import GraphContext
from qatspec.graph.trace import trace
from tests.zoo.zoo import nets


@pytest.fixture(scope="session")
def graphs() -> dict[str, GraphContext]:
    """Every net by name, at its test size and in evaluation, on the meta device."""
    found = {}
    for net in nets():
        with torch.device("meta"):
            model = net.build(**net.tiny).eval()
            x = torch.zeros(2, net.channels, *net.tiny_size)
        found[net.name] = GraphContext(model, trace(model, (x,)))
    return found
