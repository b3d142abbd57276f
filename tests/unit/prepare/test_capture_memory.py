"""Preparing a large model keeps alive what its modules are fed, not everything they compute."""

import gc
import weakref

import torch
from torch import nn

from qatspec.prepare.capture import capture


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU())
        self.head = nn.Sequential(nn.Conv2d(4, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


def test_intermediate_tensors_are_let_go() -> None:
    net = Net()
    seen: list[weakref.ref[torch.Tensor]] = []
    for module in (net.body[0], net.body[3]):
        module.register_forward_hook(lambda m, args, out: seen.append(weakref.ref(out)))
    found = capture(net, (torch.zeros(1, 1, 4, 4),), ["head"])
    gc.collect()
    inner, fed = (ref() for ref in seen)
    assert inner is None
    ((_, tensor),) = found.calls["head"].tensors()
    assert tensor is fed
    assert found.producers.get(fed) == "body.3"
