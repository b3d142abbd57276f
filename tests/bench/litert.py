"""Which nets and specs the TFLite marches take, and whether LiteRT gives the integers.

    python -m tests.bench.litert [NAMES ...] [--march litert litert_reference] [--specs]

The model of each spec with quantized tails at small pictures (`--specs`: these alone) and each net
of the zoo at its size for tests, with random weights, calibrated on made-up pictures, is lowered
for the march and compiled. `equal` compares all outputs of LiteRT, and every 8-bit tensor in
between, with those of the referee on random integers over the whole range; else the row says which
ops the file cannot hold, and why. `bytes` is the file's size. The line behind the rows counts.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from qatspec.api import (
    DiagnosticError,
    Port,
    Program,
    codes,
    compile as compile_program,
    interpret,
    load,
    lower,
    prepare,
    registry,
    set_stage,
)
from qatspec.ir import RANGE
from qatspec.schema import with_defaults
from tests.zoo.zoo import nets

PICTURES = 2
SPECS = Path(__file__).parents[2] / "specs"
#: Height and width of the made-up pictures, by model.
SIZES = {"deeplabv3plus": (64, 128), "efficientnet": (96, 96)}


@dataclass(frozen=True)
class Subject:
    """A net: build() and the shape of its input without the batch; modules: `quantize.modules` of
    its spec, None: it is prepared as a whole."""

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    modules: dict[str, Any] | None = None


def specs() -> list[Subject]:
    """The models of our specs, at small pictures, whose tails are quantized. Their data are not
    opened."""
    for root in ("BCCD", "CITYSCAPES", "COCO", "IMAGENET"):
        os.environ.setdefault(f"{root}_ROOT", str(SPECS))
    os.environ.setdefault("LITE0_WEIGHTS", str(SPECS / "README.md"))
    return [_of_spec(path) for path in sorted(SPECS.glob("*.yaml"))]


def _of_spec(path: Path) -> Subject:
    spec = load(path)
    record = registry().model(spec.model.type)
    params = with_defaults(record.params, spec.model.params)
    stage = next(name for name in spec.stages if name not in ("float", "calibration"))
    leaves = spec.quantization(stage)
    modules = {leaf.path: replace(leaf, quantize_output=True) for leaf in leaves}
    whole = list(modules) == [""]
    size = SIZES.get(spec.model.type, (128, 128))
    return Subject(path.stem, partial(record.build, params), (3, *size), None if whole else modules)


def zoo() -> Iterator[Subject]:
    for net in nets():
        build = partial(net.build, **net.tiny)
        yield Subject(net.name, build, (net.channels, *net.tiny_size))


def judge(subject: Subject, march: str, seed: int = 0) -> tuple[str, str]:
    """(verdict, remark): equal, other, refused or no integers."""
    torch.manual_seed(seed)
    model = subject.build().eval()
    for module in model.modules():  # batch norms that do something
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    pictures = torch.rand(PICTURES, *subject.shape) * 2 - 1
    options: dict[str, Any] = {"qconfig": "horizon_qat", "march": march}
    if subject.modules is None:
        options["prepare"] = "horizon"
    else:
        options["modules"] = subject.modules
    try:
        prepared = prepare(model, (pictures,), **options)
        with torch.no_grad():
            set_stage(prepared, "calibration")
            prepared.model(pictures)
        set_stage(prepared, "qat")
        set_stage(prepared, "eval")
        program = lower(prepared, (pictures[:1],), name=subject.name)
        artifact = compile_program(program, march)
    except DiagnosticError as error:
        refused = [d for d in error.diagnostics if d.code == codes.QS801]
        reasons = Counter(_reason(d.message) for d in error.diagnostics)
        words = "; ".join(f"{n} x {why}" for why, n in reasons.most_common(3))
        return ("refused" if refused else "no integers"), words
    every = with_every_layer(program)
    rng = np.random.default_rng(seed)
    ints = [
        rng.integers(*RANGE[p.dtype], (1, *p.shape), endpoint=True).astype(p.dtype)
        for p in program.inputs
    ]
    worst, numbers = 0, 0
    for case, file in ((program, artifact), (every, compile_program(every, march))):
        wanted = interpret(case, *ints)
        for got, array in zip(file.run(*ints), wanted, strict=True):
            worst = max(worst, int(np.abs(got.astype(int) - array).max()))
        numbers += sum(array.size for array in wanted)
    size = sum(map(len, artifact.sections.values()))
    remark = f"{len(program.ops)} ops, {numbers} numbers compared, {size} bytes"
    return ("equal", remark) if worst == 0 else ("other", f"{worst} apart; {remark}")


def with_every_layer(program: Program) -> Program:
    """The Program with all its 8-bit tensors as outputs, so that no layer hides an earlier one."""
    known = {port.name for port in program.outputs}
    made = [op.output for op in program.ops if op.output not in known]
    values = [program.values[name] for name in made]
    ports = [
        Port(name=v.name, dtype=v.dtype, shape=v.shape, layout="N", scale=v.scale, axis=v.axis)
        for v in values
        if v.dtype in ("int8", "uint8") and v.scale is not None
    ]
    outputs = (*program.outputs, *ports)
    return replace(program, outputs=outputs, tree=list(range(len(outputs))))


def _reason(message: str) -> str:
    """The message without the module's name."""
    return message.split(": ", 1)[-1] if message.startswith("`") else message


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="nets; default: all")
    parser.add_argument("--march", nargs="+", default=["litert", "litert_reference"])
    parser.add_argument("--specs", action="store_true", help="only the models of our specs")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    counts: Counter[tuple[str, str]] = Counter()
    print("| net | march | verdict | remark |\n|---|---|---|---|")
    for subject in (*specs(), *(() if given.specs else zoo())):
        if given.names and subject.name not in given.names:
            continue
        for march in given.march:
            start = time.perf_counter()
            try:
                verdict, remark = judge(subject, march)
            except Exception as problem:  # noqa: BLE001 - a row of the table
                verdict, remark = "error", f"{type(problem).__name__}: {str(problem)[:150]}"
            counts[march, verdict] += 1
            print(f"| {subject.name} | {march} | {verdict} | {remark} |", flush=True)
            print(f"{time.perf_counter() - start:.1f} s", file=sys.stderr)
    for (march, verdict), count in sorted(counts.items()):
        print(f"{march}: {count} {verdict}")


if __name__ == "__main__":
    main()
