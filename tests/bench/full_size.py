"""FCOS-EfficientNet-B0 at 512x512, random weights, one calibration batch: seconds of prepare, lower
and export, and the integers on every way they are run.

    python tests/bench/full_size.py [--size 512] [--threads 1]

prints a table; exit code 1 where the executor, onnxruntime or the interpreter differ. The
interpreter takes minutes at this size: --referee 128 runs it on a crop.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

from qatspec.api import compile
from qatspec.export import OnnxRunner, export_qat_onnx, to_onnx
from qatspec.graph.deploy import deploy
from qatspec.lower import lower
from qatspec.prepare import prepare, set_stage
from qatspec.program import Program
from qatspec.referee import interpret
from qatspec.registry import registry
from qatspec.schema import with_defaults

PARAMS = {"backbone": {"type": "efficientnet", "variant": "b0"}, "num_classes": 80}
MODULES = {
    "backbone": {"prepare": "horizon"},
    "neck": {"prepare": "horizon", "quantize_input": False},
    "head": {"prepare": "horizon", "quantize_input": False, "quantize_output": False},
}


def seconds(name: str, run: Callable[[], Any]) -> Any:
    start, busy = time.perf_counter(), time.process_time()
    result = run()
    wall, cpu = time.perf_counter() - start, time.process_time() - busy
    print(f"{name:24} {wall:7.2f} s, {cpu:7.2f} s of CPU", flush=True)
    return result


def medians(runs: dict[str, Callable[[], Any]], rounds: int = 9) -> dict[str, float]:
    """Seconds of CPU a picture, each the median of `rounds` in turn, after one to warm up: what
    else the machine does then weighs on all of them alike."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            start = time.process_time()
            run()
            found[name].append(time.process_time() - start)
    result = {name: statistics.median(times[1:]) for name, times in found.items()}
    for name, median in result.items():
        print(f"{name:24} {median:7.3f} s of CPU a picture", flush=True)
    return result


def float_session(model: torch.nn.Module, x: torch.Tensor, folder: Path, threads: int) -> Any:
    """The float model in onnxruntime: our Q/DQ writer on a model without fake-quants."""
    import onnxruntime

    plain = prepare(model, (x,), qconfig={"": None})
    export_qat_onnx(plain, folder / "float.onnx", (x,))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(
        folder / "float.onnx", options, providers=["CPUExecutionProvider"]
    )


def equal(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--referee", type=int, default=128, help="picture size of the interpreter")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    record = registry().model("fcos")
    model = record.build(with_defaults(record.params, PARAMS)).eval()
    x = torch.randn(1, 3, arguments.size, arguments.size)
    prepared = seconds(
        "prepare",
        lambda: prepare(model, (x,), qconfig="horizon_qat", march="bayes", modules=MODULES),
    )
    with torch.no_grad():
        set_stage(prepared, "calibration")
        seconds("calibrate, 1 picture", lambda: prepared.model(x))
    set_stage(prepared, "qat")
    set_stage(prepared, "eval")
    deployment = seconds("trace for deployment", lambda: deploy(prepared, (x,)))
    program: Program = seconds("lower", lambda: lower(prepared, (x,), deployment=deployment))
    folder = Path(tempfile.mkdtemp())
    seconds("converted ONNX", lambda: to_onnx(program, folder / "converted.onnx"))
    seconds(
        "QAT ONNX",
        lambda: export_qat_onnx(prepared, folder / "qat.onnx", (x,), deployment=deployment),
    )
    runner = seconds(
        "load in onnxruntime",
        lambda: OnnxRunner.load(folder / "converted.onnx", threads=arguments.threads),
    )
    artifact = seconds("compile, O2", lambda: compile(program, "bayes", verify=False))
    ints = program.quantize(x.numpy())
    outputs = program.run(*ints)
    same = equal(outputs, runner.run(*ints)) and equal(outputs, artifact.run(*ints))
    print(f"executor == onnxruntime == commands on {len(program.outputs)} outputs: {same}")

    small = torch.randn(1, 3, arguments.referee, arguments.referee)
    crop = lower(prepared, (small,))
    crops = crop.quantize(small.numpy())
    agrees = equal(crop.run(*crops), seconds("interpreter, crop", lambda: interpret(crop, *crops)))
    print(f"executor == interpreter at {arguments.referee}: {agrees}")

    session = float_session(model, x, folder, arguments.threads)
    feed = {session.get_inputs()[0].name: x.numpy()}
    with torch.no_grad():
        found = medians(
            {
                "float, torch eager": lambda: tree_leaves(model(x)),
                "executor": lambda: program.run(*ints),
                "commands of the bin": lambda: artifact.run(*ints),
                "integers, onnxruntime": lambda: runner.run(*ints),
                "float, onnxruntime": lambda: session.run(None, feed),
            }
        )
    for name in ("float, torch eager", "float, onnxruntime"):
        print(f"executor over {name}: {found['executor'] / found[name]:.2f}")
    print(f"commands over executor: {found['commands of the bin'] / found['executor']:.2f}")
    ratio = found["integers, onnxruntime"] / found["float, onnxruntime"]
    print(f"integers in onnxruntime over float there: {ratio:.2f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {peak:.2f} GiB")
    sys.exit(0 if same and agrees else 1)


if __name__ == "__main__":
    main()
