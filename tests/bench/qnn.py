"""How far Qualcomm's compiler and simulator are from the Program, output by output.

    python -m tests.bench.qnn [--net fcos ...] [--size N] [--pictures 3] [--soc-model 43] [--layers]

The nets of deploy_speed.py with random weights and batch norms that have seen made-up pictures,
calibrated on another one, are prepared and compiled for `march: qnn`, and the context binary runs
in the simulator of onnxruntime-qnn on made-up pictures. A row gives, for each output of the
Program, the share of equal integers, the largest and the mean distance in steps of its scale, and
the largest distance in percent of the output's largest number. int32 outputs are sums that no op
rounds: the simulator computes them in half precision, so that few are equal.

With --layers, each layer that is rounded to 8 bits is judged by itself: the Program computes it
from the integers that the simulator gave for the layers before.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from qatspec.api import (
    compile as compile_program,
    layer_exactness,
    lower,
    qdq_feeds,
    qdq_integers,
    rounded_values,
    to_qdq_onnx,
)
from qatspec.program import Program
from tests.bench.deploy_speed import NETS, _built, _calibrated


def settled(net: torch.nn.Module, size: tuple[int, int]) -> torch.nn.Module:
    """Give the batch norms statistics of noise: with those of a new net, numbers grow from layer to
    layer beyond half precision."""
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 0.5
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for _ in range(4):
            net.train()(torch.randn(2, 3, *size, generator=generator))
    return net.eval()


def program_of(name: str, size: tuple[int, int]) -> Program:
    """The net as integers of `march: qnn`."""
    build, _, modules = NETS[name]
    net = settled(_built(build), size)
    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    settings = {"modules": modules} if modules else {"quantize_output": False}
    prepared = _calibrated(lambda: net, x, qconfig="onnxruntime_qat", march="qnn", **settings)
    return lower(prepared, (x,), name=name)


def report(name: str, size: tuple[int, int], pictures: int, soc_model: int) -> None:
    program = program_of(name, size)
    start = time.perf_counter()
    artifact = compile_program(program, "qnn", soc_model=soc_model)
    seconds = time.perf_counter() - start
    (section,) = artifact.sections.values()
    print(
        f"\n{name} {size[0]}x{size[1]}: compiled in {seconds:.0f} s, {len(section) / 2**20:.1f} MiB"
    )
    found: dict[str, list[np.ndarray]] = {}
    largest: dict[str, int] = {}
    generator = torch.Generator().manual_seed(1)
    for _ in range(pictures):
        ints = program.quantize(torch.randn(1, 3, *size, generator=generator).numpy())
        pairs = zip(program.outputs, program.run(*ints), artifact.run(*ints), strict=True)
        for port, mine, theirs in pairs:
            apart = np.abs(mine.astype(np.int64) - theirs.astype(np.int64)).reshape(-1)
            found.setdefault(port.name, []).append(apart)
            peak = int(np.abs(mine.astype(np.int64)).max(initial=1))
            largest[port.name] = max(largest.get(port.name, 1), peak)
    print(f"{'output':28}{'dtype':8}{'equal':>9}{'largest':>9}{'mean':>10}{'largest, %':>12}")
    for port in program.outputs:
        apart = np.concatenate(found[port.name])
        share = 100 * apart.max() / largest[port.name]
        print(
            f"{port.name:28}{port.dtype:8}{np.mean(apart == 0):9.4f}{apart.max():9d}"
            f"{apart.mean():10.2f}{share:11.2f} %",
            flush=True,
        )


def by_layer(name: str, size: tuple[int, int], pictures: int, soc_model: int) -> None:
    """Count layers and integers that are equal where each layer gets the simulator's operands."""
    program = program_of(name, size)
    from qatspec_qnn.compiling import open_session

    names = rounded_values(program)
    values = [*program.outputs, *(program.values[value] for value in names)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layers.onnx"
        to_qdq_onnx(program, path, batch=1, node_units=True, layers=True)
        session = open_session(path.read_bytes(), soc_model, {})
    ports = [port.name for port in session.get_inputs()]

    def results(ints: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        feeds = dict(zip(ports, qdq_feeds(program.inputs, ints), strict=True))
        arrays = qdq_integers(values, session.run(None, feeds))
        return dict(zip(names, arrays[len(program.outputs) :], strict=True))

    generator = torch.Generator().manual_seed(1)
    inputs = [
        program.quantize(torch.randn(1, 3, *size, generator=generator).numpy())
        for _ in range(pictures)
    ]
    layers = layer_exactness(program, inputs, results)
    compared = sum(layer.compared for layer in layers.values())
    equal = sum(layer.equal for layer in layers.values())
    print(
        f"\n{name} {size[0]}x{size[1]}, layer by layer: {equal / compared:.6f} of {compared} equal"
    )
    print(f"{sum(r.share == 1 for r in layers.values())} of {len(layers)} layers are equal")
    worst = sorted(layers.items(), key=lambda item: (-item[1].max_lsb, item[1].share))
    for value, layer in worst[:8]:
        print(f"  {value:40}{layer.share:10.6f} equal, at most {layer.max_lsb} apart")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--net", choices=NETS, nargs="+", default=["fcos"])
    parser.add_argument("--size", type=int, nargs="+", help="H W, or one side of a square")
    parser.add_argument("--pictures", type=int, default=3)
    parser.add_argument("--soc-model", type=int, default=43)
    parser.add_argument("--layers", action="store_true", help="judge each layer by itself")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for name in options.net:
        size = (options.size[0], options.size[-1]) if options.size else NETS[name][1]
        judge = by_layer if options.layers else report
        judge(name, size, options.pictures, options.soc_model)


if __name__ == "__main__":
    main()
