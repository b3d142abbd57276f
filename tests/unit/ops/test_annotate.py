"""What handlers intend in settings that the examples lack (test_families.py has the examples)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.graph.context import GraphContext
from qatspec.graph.trace import trace
from qatspec.registry import registry
from qatspec.types import Annotation, Float, Observed, Shared


def _annotation(body) -> Annotation:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)
            self.pad = nn.ConstantPad2d(1, 3.0)
            self.weight = nn.Parameter(torch.ones(4, 4, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return body(self, x)

    net = Net()
    graph = trace(net, (torch.randn(2, 4, 8, 8),))
    context = GraphContext(net, graph)
    node = next(n for n in reversed(graph.nodes) if n.op.startswith("call_"))
    handler = registry().handler_for(context.op(node))
    assert handler is not None
    return handler.annotate(node, context)


@pytest.mark.parametrize(
    ("intent", "body"),
    [
        (Shared, lambda m, x: F.interpolate(x, scale_factor=2)),
        (Observed, lambda m, x: F.interpolate(x, scale_factor=2, mode="bicubic")),
        (Shared, lambda m, x: F.pad(x, (1, 1))),
        (Observed, lambda m, x: F.pad(x, (1, 1), value=2.0)),
        (Observed, lambda m, x: m.pad(x)),
        (Observed, lambda m, x: x / x),
        (Float, lambda m, x: torch.div(x, x, rounding_mode="floor")),
        (Float, lambda m, x: F.conv2d(x, x.mean((0, 2, 3)).reshape(1, 4, 1, 1))),
        (Observed, lambda m, x: torch.cat((x, x), dim=-1)),
        (Shared, lambda m, x: x[..., None, :4]),
        (Shared, lambda m, x: F.max_pool3d(x.unsqueeze(2), (1, 2, 2))),
        (Observed, lambda m, x: F.avg_pool3d(x.unsqueeze(2), (1, 2, 2))),
        (Observed, lambda m, x: x.mean()),
        (Observed, lambda m, x: torch.mean(x, dim=1, keepdim=True)),
        (Shared, lambda m, x: F.pad(x, (1, 1), mode="replicate")),
        (Shared, lambda m, x: F.pad(x, (1, 1), mode="circular")),
        (Shared, lambda m, x: x.view(2, -1)),
        (Shared, lambda m, x: x.transpose(1, 2).contiguous()),
        (Observed, lambda m, x: F.prelu(x, m.weight[:, 0, 0, 0])),
        (Observed, lambda m, x: x.sub(x)),
        (Observed, lambda m, x: x / m.weight.mean()),
    ],
)
def test_intent(intent: type, body) -> None:
    annotation = _annotation(body)
    assert isinstance(annotation.output, intent)
    if intent is Float:
        assert annotation.output.reason


def test_only_weights_anchor_int32_tails() -> None:
    conv = _annotation(lambda m, x: m.conv(x))
    assert conv.int32_tail and conv.has_weight and conv.kind == "anchor"
    other = _annotation(lambda m, x: x + x)
    assert not other.int32_tail and not other.has_weight


def test_operands_that_are_tensors_are_inputs() -> None:
    assert _annotation(lambda m, x: x + 1).inputs == (0,)
    assert _annotation(lambda m, x: 1 - x).inputs in ((0,), (1,))
    assert _annotation(lambda m, x: x * x.mean()).inputs == (0, 1)
