"""Other people's networks through the whole chain: float, calibration, two steps of qat, integers.

    python tests/bench/other_models.py --state models.json                 # timm, one a family
    python tests/bench/other_models.py --state models.json --only resnet   # again, by family
    python tests/bench/other_models.py --state models.json --table         # what is known

Needs `timm` (and torchvision, which it imports). Takes the smallest model of each file of
`timm.models`, untrained, at the smallest input that it takes. Every model runs in a process of its
own; results are kept in the state file, so that a run which is stopped goes on where it was. A
model is "whole" where prepare, calibration, two steps of qat, lower and both ONNX files work and
each layer's integers are within one step of its fake-quant, given equal inputs, and equal in
onnxruntime; "refused" where a diagnostic says why before training; "crash" and "wrong" are faults
of qatspec. About 40 minutes on two cores.
"""

from __future__ import annotations

import argparse
import collections
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # tests, when run as a program

SIZES = (64, 96, 128, 160, 224, 256)
LIMIT_S = 240
_KEPT: list[Any] = []  # declared ops live as long as their library


def import_timm() -> Any:
    """timm, also beside a torchvision whose compiled ops were not built for this torch: ops that it
    only describes are declared first."""
    import torch

    spec = importlib.util.find_spec("torchvision")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    if folder is not None and "torchvision" not in sys.modules:
        try:
            for library in folder.glob("_C*.so"):
                torch.ops.load_library(library)
        except OSError:
            text = (folder / "_meta_registrations.py").read_text()
            _KEPT.append(declared := torch.library.Library("torchvision", "DEF"))
            for name in sorted(set(re.findall(r'register_fake\("torchvision::(\w+)"', text))):
                declared.define(f"{name}(Tensor x) -> Tensor")
    import timm

    return timm


def smallest() -> dict[str, str]:
    """Family -> its model with the fewest parameters, found on the meta device."""
    import torch

    timm = import_timm()
    found = {}
    for family in timm.list_modules():
        sizes = {}
        for name in timm.list_models(module=family):
            try:
                with torch.device("meta"):
                    model = timm.create_model(name)
                sizes[sum(p.numel() for p in model.parameters())] = name
            except Exception:  # noqa: BLE001, PERF203  some cannot be built without data
                continue
        if sizes:
            found[family] = sizes[min(sizes)]
    return found


def build(name: str) -> tuple[Any, Any]:
    """(model, example input) at the smallest size that its forward takes."""
    import torch

    timm = import_timm()
    torch.manual_seed(0)
    problem: Exception | None = None
    for size in SIZES:
        for options in ({"img_size": size}, {}):
            try:
                model = timm.create_model(name, num_classes=10, **options).eval()
                channels = model.default_cfg["input_size"][0]
                x = torch.randn(2, channels, size, size)
                with torch.no_grad():
                    model(x)
                return model, x
            except Exception as error:  # noqa: BLE001, PERF203  another size may do
                problem = error
    raise RuntimeError(f"no input size works: {problem}")


def try_model(name: str) -> dict[str, Any]:
    """One model through the chain; what came of it."""
    import numpy as np
    import torch

    from qatspec.api import (
        DiagnosticError,
        OnnxRunner,
        QConfig,
        export_qat_onnx,
        prepare,
        set_stage,
        to_onnx,
    )
    from qatspec.graph.deploy import deploy
    from qatspec.lower.pipeline import lower_layers
    from qatspec.referee.interpreter import interpret_all
    from tests.module_check import Layers, Wrong

    model, x = build(name)
    record: dict[str, Any] = {"model": name, "size": x.shape[-1]}
    with torch.no_grad():
        expected = model(x)
    stage = "prepare"
    try:
        prepared = prepare(model, (x,), qconfig=QConfig(), quantize_output=True)
        stage = "calibration"
        set_stage(prepared, "calibration")
        with torch.no_grad():
            prepared.model(x)
        stage = "qat"
        set_stage(prepared, "qat")
        trained = [p for p in prepared.model.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(trained, lr=1e-4)
        for _ in range(2):
            optimizer.zero_grad()
            prepared.model(x).square().mean().backward()
            torch.nn.utils.clip_grad_norm_(trained, 0.1)  # untrained nets explode
            optimizer.step()
        stage = "eval"
        set_stage(prepared, "eval")
        with torch.no_grad():
            fake = prepared.model(x)
        stage = "lower"
        deployment = deploy(prepared, (x,))
        program, layers = lower_layers(prepared, (x,), deployment=deployment)
        values = interpret_all(program, *program.quantize(x.numpy()))
        integers = [values[port.name] for port in program.outputs]
        (real,) = program.dequantize(integers)
        stage = "layers"
        Layers(deployment, layers, values).run(x)
        stage = "export"
        with tempfile.TemporaryDirectory() as folder:
            export_qat_onnx(prepared, Path(folder, "q.onnx"), (x,))
            to_onnx(program, Path(folder, "c.onnx"))
            again = OnnxRunner.load(Path(folder, "c.onnx")).run(*program.quantize(x.numpy()))
        if not all(np.array_equal(a, b) for a, b in zip(integers, again, strict=True)):
            raise Wrong("other integers in onnxruntime")
    except Wrong as wrong:
        return {**record, "result": "wrong", "stage": stage, "why": [str(wrong)]}
    except DiagnosticError as error:
        found = error.diagnostics
        codes = sorted({getattr(d.code, "id", d.code) for d in found})
        kind = "refused" if stage in ("prepare", "calibration", "lower") else "late refusal"
        text = [f"{d.message} | {d.help}" for d in found[:4]]
        return {**record, "result": kind, "stage": stage, "codes": codes, "why": text}
    except Exception as error:  # noqa: BLE001  what the table counts
        words = f"{type(error).__name__}: {error}"[:400]
        return {**record, "result": "crash", "stage": stage, "why": [words]}
    steps = np.abs(real - fake.numpy()).max() / program.outputs[0].scale.max()
    noise = (fake - expected).norm() / (expected - expected.mean()).norm().clamp(min=1e-12)
    numbers = {"steps": round(float(steps), 2), "noise": round(float(noise), 3)}
    return {**record, "result": "whole", **numbers}


def run(state: Path, only: str | None) -> None:
    known = json.loads(state.read_text()) if state.exists() else {"families": {}, "results": {}}
    if not known["families"]:
        known["families"] = smallest()
        state.write_text(json.dumps(known, indent=1))
    for family, name in known["families"].items():
        if (only is None and family in known["results"]) or (
            only is not None and only not in family
        ):
            continue
        begin = time.monotonic()
        command = [sys.executable, __file__, "--model", name]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=LIMIT_S, check=False
            )
            line = done.stdout.strip().rpartition("\n")[2]
            found = json.loads(line) if done.returncode == 0 else None
            result = found or {"result": "crash", "why": [done.stderr.strip()[-400:]]}
        except subprocess.TimeoutExpired:
            result = {"result": "too slow"}
        known["results"][family] = {"model": name, **result, "s": round(time.monotonic() - begin)}
        state.write_text(json.dumps(known, indent=1))
        print(family, name, result["result"], *result.get("codes", ()), flush=True)


def table(state: Path) -> None:
    results = json.loads(state.read_text())["results"]
    for family, found in sorted(results.items(), key=lambda kv: (kv[1]["result"], kv[0])):
        why = (found.get("why") or [""])[0][:110]
        print(f"{found['result']:12} {family:24} {found['model']:36} {why}")
    print(dict(collections.Counter(found["result"] for found in results.values())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--state", type=Path)
    parser.add_argument("--only")
    parser.add_argument("--model")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.model:
        print(json.dumps(try_model(options.model)))
    elif options.table:
        table(options.state)
    else:
        run(options.state, options.only)
        table(options.state)


if __name__ == "__main__":
    main()
