"""The community tutorial's four models at full size, random weights, one calibration batch, for
both marches: what prepares, lowers, exports, runs equal in onnxruntime and compiles.

    python tests/bench/tutorial_models.py --rows rows.json       # goes on where it stopped
    python tests/bench/tutorial_models.py --only fcos_efficientnetb0_mscoco --march bayes

Each (model, march) runs in a process of its own, so that its peak memory is its own. Exit code 1
where integers differ. Budget: twenty minutes, half of them for DeepLabV3+ at 1024x2048.
The same at reduced size runs in CI: tests/e2e/test_specs.py.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qatspec.backend import compile
from qatspec.diag import DiagnosticError
from qatspec.export import OnnxRunner, export_qat_onnx, to_onnx
from qatspec.lower import lower
from qatspec.prepare import prepare_spec, set_stage
from qatspec.registry import registry
from qatspec.spec import load

SPECS = Path(__file__).parents[2] / "specs"
NAMES = (
    "fcos_efficientnetb0_mscoco",
    "fcos_efficientnetb2_mscoco",
    "fcos_efficientnetb3_mscoco",
    "deeplabv3plus_efficientnetm2_cityscapes",
)
MARCHES = ("bernoulli2", "bayes")


def measure(name: str, march: str) -> dict[str, Any]:
    """One row: seconds of each step, the verdict, equality, and what the march's model says."""
    os.environ.setdefault("COCO_ROOT", ".")
    os.environ.setdefault("CITYSCAPES_ROOT", ".")
    row: dict[str, Any] = {"model": name, "march": march}
    spec = load(SPECS / f"{name}.yaml", [f"march={march}"])
    torch.manual_seed(0)
    model = registry().model(spec.model.type).build(spec.model.params).eval()
    x = torch.rand(1, spec.input.channels, *spec.input.size) * 2 - 1
    start = time.perf_counter()

    def lap(step: str) -> None:
        nonlocal start
        row[step] = round(time.perf_counter() - start, 1)
        print(f"  {step} {row[step]} s", file=sys.stderr, flush=True)
        start = time.perf_counter()

    prepared = prepare_spec(spec, "calibration", model)
    lap("prepare")
    with torch.no_grad():
        prepared.model(x)
    lap("calibrate")
    set_stage(prepared, "eval")
    try:
        program = lower(prepared, (x,), name=name)
    except DiagnosticError as error:
        return {**row, "verdict": "; ".join(d.message for d in error.diagnostics)}
    lap("lower")
    with tempfile.TemporaryDirectory() as folder:
        to_onnx(program, Path(folder) / "converted.onnx")
        export_qat_onnx(prepared, Path(folder) / "qat.onnx", (x,), name=name)
        lap("export")
        ints = program.quantize(x.numpy())
        ours = program.run(*ints)
        lap("executor")
        theirs = OnnxRunner.load(Path(folder) / "converted.onnx").run(*ints)
        lap("onnxruntime")
    row["equal"] = all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    row["outputs"] = len(ours)
    try:
        artifact = compile(program, march, opt="O3")
    except DiagnosticError as error:
        return {**row, "verdict": "; ".join(d.message for d in error.diagnostics)}
    lap("compile")
    row["verdict"] = "compiles"
    row["bin MiB"] = round(sum(map(len, artifact.sections.values())) / 2**20, 1)
    row["peak GiB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 1)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=Path, help="keep rows here, and skip those it has")
    parser.add_argument("--only", choices=NAMES)
    parser.add_argument("--march", choices=MARCHES)
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "MARCH"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measure(*asked.one)))
        return
    rows = json.loads(asked.rows.read_text()) if asked.rows and asked.rows.exists() else []
    for name in [asked.only] if asked.only else NAMES:
        for march in [asked.march] if asked.march else MARCHES:
            if any((r["model"], r["march"]) == (name, march) for r in rows):
                continue
            print(f"{name} for {march}", file=sys.stderr, flush=True)
            command = [sys.executable, __file__, "--one", name, march]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            rows.append(json.loads(done.stdout))
            if asked.rows:
                asked.rows.write_text(json.dumps(rows, indent=1))
    columns = list(dict.fromkeys(key for row in rows for key in row))
    print(" | ".join(columns))
    for row in rows:
        print(" | ".join(str(row.get(column, "")) for column in columns))
    sys.exit(0 if all(row.get("equal", True) for row in rows) else 1)


if __name__ == "__main__":
    main()
