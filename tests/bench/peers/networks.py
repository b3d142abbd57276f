"""How many of other people's networks go through a quantizer, as JSON.

    python tests/bench/peers/networks.py PEER FOLDER [--every 4] [--count 10] [--limit 120]

The networks are those of timm (`pip install timm`): of every fourth file of `timm.models`, in
alphabetical order, the smallest model, and of these the ten with the fewest weights. They are
untrained, at the smallest input that they take, with two of the equal blocks in a row
(`tests/bench/other_models.py`). Each goes through the chain of `mistakes.py` in a process of its
own: prepare, calibrate, one step of training, export, onnxruntime.

    whole    a file whose outputs are, in the mean, within a tenth of a standard deviation of the
             trained net's
    differs  a file whose outputs are further away; not finite: they, or the trained net's, are NaN
    refused  an error; `why` has its first line, `stage` where it was raised
    slow     more than `--limit` seconds of processor time
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import multiprocessing
import os
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

import mistakes
import numpy as np
import task
import torch
from adapters import ADAPTERS
from measure import runner

sys.path.insert(0, str(Path(__file__).parents[1]))
import other_models

#: Distance from the trained net's outputs, in their standard deviations, of a file that is whole.
NEAR = 0.1


def chosen(folder: Path, every: int, count: int) -> list[str]:
    """The models, chosen once for all quantizers."""
    file = folder / "networks.json"
    if not file.exists():
        import timm

        families, list_modules = timm.list_modules()[::every], timm.list_modules
        timm.list_modules = lambda: families
        sizes = {}
        for name in other_models._of_timm().values():
            with torch.device("meta"):
                sizes[name] = sum(p.numel() for p in other_models.create(name).parameters())
        timm.list_modules = list_modules
        file.write_text(json.dumps(sorted(sizes, key=lambda name: sizes[name])[:count], indent=1))
    names: list[str] = json.loads(file.read_text())
    return names


def through(peer: str, name: str) -> dict[str, Any]:
    """What came of one network."""
    net, x = other_models.build(name)
    net = other_models.shortened(net, x)
    answer: dict[str, Any] = {"size": x.shape[-1]}
    adapter, stage = ADAPTERS[peer](), "prepare"
    try:
        made = adapter.prepare(net, [x, x.flip(0)], 8)
        stage = "train"
        adapter.train(made, True)
        task.step(made, task.optimizer(made, 1e-5), x, torch.arange(len(x)))
        adapter.train(made, False)
        with torch.no_grad():
            expected = torch.cat([made(one) for one in x.split(1)]).numpy()
        stage = "export"
        with tempfile.TemporaryDirectory() as folder:
            exported = adapter.export(made, x[:1], Path(folder, "net.onnx"))
            stage = "onnxruntime"
            run = runner(exported)
            rows = [exported.values(run(*exported.feeds(one.numpy()))) for one in x.split(1)]
    except Exception as error:  # noqa: BLE001  what the table counts
        first = (str(error).strip() or "no text").splitlines()[0]
        why = f"{type(error).__name__}: {first}"[:200]
        return {**answer, "result": "refused", "stage": stage, "why": why}
    outputs = np.concatenate(rows)
    if not (np.isfinite(outputs).all() and np.isfinite(expected).all()):
        return {**answer, "result": "not finite"}
    far = float(np.abs(outputs - expected).mean() / max(expected.std(), 1e-12))
    return {**answer, "result": "whole" if far <= NEAR else "differs", "mean": round(far, 4)}


def _answer(peer: str, name: str, path: Path, limit: int) -> None:
    """What the process of one network does."""
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
        try:
            result = through(peer, name)
        except Exception as error:  # noqa: BLE001  the library's own
            result = {"result": "not built", "why": f"{error}"[:200]}
    path.write_text(json.dumps(result))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("peer", choices=ADAPTERS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--limit", type=int, default=120)
    options = parser.parse_args()
    torch.set_num_threads(1)
    other_models.declare_missing_ops()
    importlib.import_module("timm")  # before an adapter stands in for torchvision, which it needs
    networks = chosen(options.folder, options.every, options.count)
    with contextlib.suppress(Exception):  # imports what the processes need, once
        mistakes.chain(
            ADAPTERS[options.peer](), mistakes._settled(mistakes.Net()), mistakes._batches(),
            options.folder / f"{options.peer}-first.onnx",
        )  # fmt: skip
    results: dict[str, Any] = {}
    for name in networks:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "answer.json")
            words = (options.peer, name, path, options.limit)
            process = multiprocessing.get_context("fork").Process(target=_answer, args=words)
            process.start()
            process.join(10 * options.limit)
            process.kill()
            result = json.loads(path.read_text()) if path.exists() else {"result": "slow"}
        results[name] = result
        print(name, result, flush=True)
    file = options.folder / f"{options.peer}-networks.json"
    file.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
