"""Other people's networks through the whole chain: float, calibration, two steps of qat, integers.

    python tests/bench/other_models.py --state models.json                 # one of each family
    python tests/bench/other_models.py --state models.json --only resnet   # again, by family
    python tests/bench/other_models.py --state models.json --table         # what is known
    python tests/bench/other_models.py --state short.json --short          # short models
    python tests/bench/other_models.py --state quick.json --quick          # up to the integers

Takes the smallest model of each file of `timm.models`, of each file of `torchvision.models` and
`torchvision.models.segmentation`, and each network of `segmentation_models_pytorch` on a small
encoder; packages that are not installed are left out. All are untrained, at the smallest input that
they take. Every model runs in a process of its own; results are kept in the state file, so that a
run which is stopped goes on where it was.

A model is "whole" where prepare, calibration, two steps of qat, lower and both ONNX files work and
each layer's integers are within one step of its fake-quant, given equal inputs, and equal in
onnxruntime; "refused" where a diagnostic says why before training; "crash" and "wrong" are faults
of qatspec. "noise" is the distance of the fake-quant outputs from the float model's, as a share of
their spread, and "steps" the largest distance of the integers from the fake-quant outputs, in steps
of the output's scale. About 40 minutes on two cores. With `--short` two of the equal blocks in a
row are kept of each model; with `--quick`, moreover, the chain ends with a backward pass and lower:
a model is then "lowered".
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import copy
import importlib
import importlib.util
import json
import multiprocessing
import os
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # tests, when run as a program

SIZES = (64, 96, 128, 160, 224, 256, 384)
LIMIT_S = 600  # of processor time
SEGMENTATION_ENCODER = "resnet18"
_LARGE = r"large|huge|giant|base|medium|so400m|xl|[_\d][lmhg](?![a-z])|(101|152|200|269)(?!\d)"
_KEPT: list[Any] = []  # declared ops live as long as their library


def declare_missing_ops() -> None:
    """Let torchvision be imported where its compiled ops were not built for this torch: ops that it
    only describes are declared first."""
    import torch
    from torch import library

    spec = importlib.util.find_spec("torchvision")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    if folder is None or "torchvision" in sys.modules:
        return
    try:
        for compiled in folder.glob("_C*.so"):
            torch.ops.load_library(compiled)
    except OSError:
        text = (folder / "_meta_registrations.py").read_text()
        _KEPT.append(declared := library.Library("torchvision", "DEF"))
        for name in sorted(set(re.findall(r'register_fake\("torchvision::(\w+)"', text))):
            declared.define(f"{name}(Tensor x) -> Tensor")


def _small(names: list[str]) -> list[str]:
    """Those that may be the smallest: what timm made for its tests, or all but those with a name
    for large ones."""
    tests = [name for name in names if name.startswith("test_")]
    return tests or [name for name in names if not re.search(_LARGE, name)] or names


def _of_timm() -> dict[str, str]:
    """Sizes are counted on the meta device."""
    import timm
    import torch

    found = {}
    for family in timm.list_modules():
        sizes = {}
        for name in _small(timm.list_models(module=family)):
            try:
                with torch.device("meta"):
                    model = timm.create_model(name)
                sizes[sum(p.numel() for p in model.parameters())] = name
            except Exception:  # noqa: BLE001, PERF203  some cannot be built without data
                continue
        if sizes:
            found[family] = f"timm:{sizes[min(sizes)]}"
    return found


def _of_torchvision() -> dict[str, str]:
    """Sizes are those that torchvision publishes."""
    from torchvision import models
    from torchvision.models import segmentation

    found: dict[str, tuple[int, str]] = {}
    for package in (models, segmentation):
        for name in models.list_models(module=package):
            family = models.get_model_builder(name).__module__.rpartition(".")[2]
            size = next(iter(models.get_model_weights(name))).meta["num_params"]
            key = f"torchvision/{family}"
            found[key] = min(found.get(key, (size, name)), (size, name))
    return {family: f"torchvision:{name}" for family, (_, name) in found.items()}


def _of_segmentation_models() -> dict[str, str]:
    import segmentation_models_pytorch as smp

    return {f"smp/{name}": f"smp:{name}" for name in smp.MODEL_ARCHITECTURES_MAPPING}


def smallest() -> dict[str, str]:
    """Family -> its model with the fewest parameters, of the libraries that are installed."""
    found = {}
    for families in (_of_timm, _of_torchvision, _of_segmentation_models):
        try:
            found.update(families())
        except ImportError as error:  # noqa: PERF203
            print(f"left out: {error}")
    return found


def create(name: str, **options: Any) -> Any:
    """The untrained model of a name `library:model`."""
    library, _, model = name.partition(":")
    if library == "timm":
        import timm

        return timm.create_model(model, **options)
    if library == "torchvision":
        from torchvision.models import get_model, list_models, segmentation

        if model in list_models(module=segmentation):
            options["weights_backbone"] = None
        return get_model(model, weights=None, **options)
    import segmentation_models_pytorch as smp

    encoder = "tu-vit_tiny_patch16_224" if model == "dpt" else SEGMENTATION_ENCODER
    return smp.create_model(model, encoder, encoder_weights=None, **options)


def build(name: str) -> tuple[Any, Any]:
    """(model, example input) at the smallest size that its forward takes."""
    import torch

    problem: Exception | None = None
    for size in SIZES:
        for options in ({"num_classes": 10, "img_size": size}, {"num_classes": 10}, {}):
            try:
                torch.manual_seed(0)
                model = create(name, **options).eval()
                channels = getattr(model, "default_cfg", {}).get("input_size", (3,))[0]
                x = torch.randn(2, channels, size, size)
                with torch.no_grad():
                    model(x)
                return model, x
            except Exception as error:  # noqa: BLE001, PERF203  another size may do
                problem = error
    raise RuntimeError(f"no input size works: {problem}")


def shortened(model: Any, x: Any) -> Any:
    """A copy of a model without the third and later ones of equal blocks in a row; the model itself
    where its forward does not take that."""
    import torch
    from torch import nn

    short = copy.deepcopy(model)
    for module in short.modules():
        blocks = (
            list(module.children()) if isinstance(module, (nn.Sequential, nn.ModuleList)) else []
        )
        if len({type(block) for block in blocks}) != 1:
            continue
        kept: list[Any] = []
        for block in blocks:
            alike = [_size(other) == _size(block) for other in kept[-2:]]
            if alike != [True, True]:
                kept.append(block)
        if len(kept) < len(blocks) and list(module._modules) == list(map(str, range(len(blocks)))):
            module._modules.clear()
            for i, block in enumerate(kept):
                module.add_module(str(i), block)
    try:
        with torch.no_grad():
            short(x)
    except Exception:  # noqa: BLE001  whatever the model's code raises
        return model
    return short


def _size(module: Any) -> int:
    return sum(p.numel() for p in module.parameters())


def try_model(name: str, short: bool = False, quick: bool = False) -> dict[str, Any]:
    """One model through the chain; what came of it."""
    import numpy as np
    import torch
    from torch.utils._pytree import tree_leaves

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

    def tensors(result: Any) -> list[torch.Tensor]:
        return [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]

    model, x = build(name)
    record: dict[str, Any] = {"model": name, "size": x.shape[-1]}
    if short or quick:
        model = shortened(model, x)
    with torch.no_grad():
        expected = tensors(model(x))
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
        for _ in range(1 if quick else 2):
            optimizer.zero_grad()
            sum(y.square().mean() for y in tensors(prepared.model(x))).backward()
            torch.nn.utils.clip_grad_norm_(trained, 0.1)  # untrained nets explode
            optimizer.step()
        stage = "eval"
        set_stage(prepared, "eval")
        with torch.no_grad():
            fake = tensors(prepared.model(x))
        stage = "lower"
        deployment = deploy(prepared, (x,))
        program, layers = lower_layers(prepared, (x,), deployment=deployment)
        if quick:
            return {**record, "result": "lowered"}
        values = interpret_all(program, *program.quantize(x.numpy()))
        integers = [values[port.name] for port in program.outputs]
        stage = "layers"
        with torch.no_grad():
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
        place = traceback.format_exc().strip().splitlines()[-6:]
        return {**record, "result": "crash", "stage": stage, "why": [words, *place]}
    real, faked, port = program.dequantize(integers)[0], fake[0], program.outputs[0]
    steps = np.abs(real - faked.numpy()).max() / port.scale.max() if len(fake) == 1 else np.nan
    spread = (expected[0] - expected[0].mean()).norm().clamp(min=1e-12)
    noise = (faked - expected[0]).norm() / spread
    numbers = {"steps": round(float(steps), 2), "noise": round(float(noise), 3)}
    return {**record, "result": "whole", **numbers}


def _answer(name: str, path: Path, short: bool, quick: bool) -> None:
    """What the process of one model does."""
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S))
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
        try:
            result = try_model(name, short, quick)
        except Exception as error:  # noqa: BLE001  the library's own
            result = {"result": "not built", "why": [f"{type(error).__name__}: {error}"[:400]]}
    path.write_text(json.dumps(result))


def run(state: Path, only: str | None, short: bool, quick: bool) -> None:
    known = json.loads(state.read_text()) if state.exists() else {"families": {}, "results": {}}
    declare_missing_ops()
    if not known["families"]:
        known["families"] = smallest()
        state.write_text(json.dumps(known, indent=1))
    for library in ("qatspec.api", "onnxruntime", "timm", "torchvision"):
        if importlib.util.find_spec(library.partition(".")[0]):
            importlib.import_module(library)
    processes = multiprocessing.get_context("fork")  # which imports the libraries once
    for family, name in known["families"].items():
        if (only is None and family in known["results"]) or (
            only is not None and only not in family
        ):
            continue
        begin = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            answer = Path(folder, "answer.json")
            process = processes.Process(target=_answer, args=(name, answer, short, quick))
            process.start()
            process.join()
            if answer.exists():
                result = json.loads(answer.read_text())
            elif process.exitcode in (-signal.SIGXCPU, -signal.SIGKILL):
                result = {"result": "too slow"}
            else:
                result = {"result": "crash", "why": [f"the process ended with {process.exitcode}"]}
        known = json.loads(state.read_text())  # another run may have written to it
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
    parser.add_argument("--model", help="try one, `library:name`")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--short", action="store_true", help="two of equal blocks in a row")
    parser.add_argument("--quick", action="store_true", help="short models, up to the integers")
    options = parser.parse_args()
    if options.model:
        declare_missing_ops()
        print(json.dumps(try_model(options.model, options.short, options.quick)))
    elif options.table:
        table(options.state)
    else:
        run(options.state, options.only, options.short, options.quick)
        table(options.state)


if __name__ == "__main__":
    main()
