"""How long `prepare` takes and what a training step costs, beside torch.ao's FX mode.

    python tests/bench/prepare.py                       times and step ratios
    python tests/bench/prepare.py --nodes 500 5000      how the time grows with the graph
    python tests/bench/prepare.py --nodes 500 --peer    beside torch.ao

A program, not a test. Step ratio: seconds of a step (forward, backward) of the prepared model over
the float one's. Times of `--nodes` are those of the CPU, which a loaded machine changes less.
"""

from __future__ import annotations

import argparse
import copy
import gc
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from qatspec.prepare import prepare, set_stage

#: Nodes that a block has in the graph.
NODES_OF_BLOCK = 7


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


def deep(nodes: int) -> nn.Module:
    """A residual net whose graph has about so many nodes."""
    stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    return nn.Sequential(stem, *(Block(8) for _ in range(round((nodes - 3) / NODES_OF_BLOCK))))


def growth(sizes: list[int], peer: bool) -> None:
    """Print the seconds of the CPU that prepare takes for graphs of these sizes."""
    x = torch.randn(2, 3, 32, 32)
    ours(deep(50), x)
    for nodes in sizes:
        model = deep(nodes)
        seconds = min(cpu_seconds(ours, model, x) for _ in range(2))
        print(
            f"{nodes:6} nodes {seconds:7.2f} s, {seconds / nodes * 1e3:.2f} ms a node", flush=True
        )
        if peer:
            other = min(cpu_seconds(torchs, model, x) for _ in range(2))
            print(f"   torch.ao  {other:7.2f} s, ratio {seconds / other:.2f}", flush=True)


def cpu_seconds(
    way: Callable[[nn.Module, Tensor], nn.Module], model: nn.Module, x: Tensor
) -> float:
    gc.collect()  # what an earlier run left is not this one's
    start = time.process_time()
    way(model, x)
    return time.process_time() - start


def main() -> None:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, nargs="+")
    parser.add_argument("--peer", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.nodes:
        growth(options.nodes, options.peer)
        return
    model, x = net(), torch.randn(8, 3, 128, 128)
    plain = step_seconds(model, x)
    print(f"float step {plain * 1e3:.0f} ms, {torch.get_num_threads()} threads")
    for name, way in (("qatspec", ours), ("torch.ao", torchs)):
        seconds = median_seconds(lambda way=way: way(model, x), 3)
        ratio = step_seconds(way(model, x), x) / plain
        print(f"{name:9} prepare {seconds * 1e3:5.0f} ms, step ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
