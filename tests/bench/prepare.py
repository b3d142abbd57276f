"""How long `prepare` takes and what a training step costs, beside torch.ao's FX mode.

A program, not a test: `python tests/bench/prepare.py` on a quiet machine.
Step ratio: seconds of a step (forward, backward) of the prepared model over the float one's.
"""

from __future__ import annotations

import copy
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from qatspec.prepare import prepare, set_stage


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(self.conv1(x)).relu()
        return (x + self.norm2(self.conv2(y))).relu()


def net() -> nn.Module:
    """A residual net of 17 convs."""
    stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
    return nn.Sequential(stem, *(Block(32) for _ in range(8)))


def ours(model: nn.Module, x: Tensor) -> nn.Module:
    prepared = prepare(model, (x,), qconfig="horizon_qat")
    set_stage(prepared, "qat")
    return prepared.model


def torchs(model: nn.Module, x: Tensor) -> nn.Module:
    from torch.ao.quantization import get_default_qat_qconfig_mapping
    from torch.ao.quantization.quantize_fx import prepare_qat_fx

    mapping = get_default_qat_qconfig_mapping("x86")
    return prepare_qat_fx(copy.deepcopy(model).train(), mapping, (x,))


def median_seconds(run: Callable[[], object], times: int) -> float:
    run()
    found = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def step_seconds(model: nn.Module, x: Tensor) -> float:
    model.train()

    def step() -> None:
        model.zero_grad()
        model(x).square().mean().backward()

    return median_seconds(step, 7)


def main() -> None:
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    model, x = net(), torch.randn(8, 3, 128, 128)
    plain = step_seconds(model, x)
    print(f"float step {plain * 1e3:.0f} ms, {torch.get_num_threads()} threads")
    for name, way in (("qatspec", ours), ("torch.ao", torchs)):
        seconds = median_seconds(lambda way=way: way(model, x), 3)
        ratio = step_seconds(way(model, x), x) / plain
        print(f"{name:9} prepare {seconds * 1e3:5.0f} ms, step ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
