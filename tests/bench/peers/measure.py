"""What one quantizer takes and gives, as JSON: it runs in that quantizer's environment.

    python tests/bench/peers/measure.py PEER NET FOLDER [--bits 8 4] [--seeds 2]
        [--steps 20] [--rounds 5]

`python -m tests.bench.peers` calls it. Times are CPU time of one
thread, which other work on the machine changes less. Steps of training and runs of the file are
timed in turn with those of the float net.
"""

from __future__ import annotations

import argparse
import copy
import json
import resource
import statistics
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import task
import torch
from adapter import Adapter, Exported
from adapters import ADAPTERS
from torch import Tensor, nn

RATE = 0.001


def spread(numbers: list[float]) -> list[float]:
    """Lower quartile, median and upper quartile."""
    return [round(q, 4) for q in statistics.quantiles(numbers, n=4)]


def in_turn(runs: list[Callable[[], object]], rounds: int) -> list[list[float]]:
    """CPU seconds of each, once a round, one after the other; the first round warms up."""
    times: list[list[float]] = [[] for _ in runs]
    for number in range(rounds + 1):
        for run, kept in zip(runs, times, strict=True):
            begun = time.process_time()
            run()
            if number:
                kept.append(time.process_time() - begun)
    return times


def ratios(base: list[float], others: list[float]) -> list[float]:
    return spread([other / one for one, other in zip(base, others, strict=True)])


def peak() -> float:
    """MiB that the process held at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def session(file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def runner(exported: Exported) -> Callable[[np.ndarray], list[np.ndarray]]:
    """A function of what `feeds` gives."""
    opened = session(exported.file)
    names = [port.name for port in opened.get_inputs()]
    return lambda *feeds: list(opened.run(None, dict(zip(names, feeds, strict=True))))


def outputs(net: nn.Module, x: Tensor) -> np.ndarray:
    with torch.no_grad():
        return torch.cat([net(part) for part in x.split(task.BATCH)]).numpy()


def accuracy(scores: np.ndarray, labels: Tensor) -> float:
    return round(100 * float((scores.argmax(1) == labels.numpy()).mean()), 2)


class Comparison:
    def __init__(self, adapter: Callable[[], Adapter], name: str, folder: Path, steps: int) -> None:
        self.adapter, self.name, self.folder, self.steps = adapter, name, folder, steps
        self.pictures = task.Pictures()
        self.net = task.trained_in_float(name, self.pictures, folder)
        self.x, self.labels = self.pictures.val()
        self.batches = [x for x, _ in self.pictures.batches(2000, task.CALIBRATION)]

    def prepared(self, bits: int) -> tuple[Adapter, nn.Module]:
        torch.manual_seed(0)
        adapter = self.adapter()
        return adapter, adapter.prepare(copy.deepcopy(self.net), self.batches, bits)

    def trained(self, bits: int, seed: int) -> tuple[Adapter, nn.Module]:
        adapter, net = self.prepared(bits)
        adapter.train(net, True)
        updates = task.optimizer(net, RATE)
        rates = torch.optim.lr_scheduler.CosineAnnealingLR(updates, self.steps)
        for number, (x, labels) in enumerate(self.pictures.batches(seed, self.steps)):
            if number == self.steps * 2 // 3:
                adapter.settle(net)
            task.step(net, updates, x, labels)
            rates.step()
        adapter.train(net, False)
        return adapter, net

    def steps_in_turn(self, rounds: int, found: dict[str, Any]) -> list[float]:
        """Time of a step of training over that of the float net; how long `prepare` took."""
        begun = time.process_time()
        adapter, net = self.prepared(8)
        found["prepare_s"] = round(time.process_time() - begun, 2)
        adapter.train(net, True)
        plain = copy.deepcopy(self.net).train()
        x, labels = next(self.pictures.batches(0, 1))
        runs = []
        for which in (plain, net):
            updates = task.optimizer(which, 1e-4)
            runs.append(lambda which=which, updates=updates: task.step(which, updates, x, labels))
        return ratios(*in_turn(runs, rounds))

    def run_in_onnxruntime(self, exported: Exported) -> np.ndarray:
        run = runner(exported)
        rows = [exported.values(run(*exported.feeds(one.numpy()))) for one in self.x.split(1)]
        return np.concatenate(rows)

    def speed(self, exported: Exported, rounds: int) -> list[float]:
        """float32's time over the file's, of one picture, in onnxruntime."""
        plain, one = self.folder / f"{self.name}.float.onnx", self.x[:1]
        torch.onnx.export(self.net, (one,), plain, opset_version=17, dynamo=False)
        runs = []
        for which in (exported, Exported(plain)):
            run, feeds = runner(which), which.feeds(one.numpy())

            def twenty(run=run, feeds=feeds) -> None:
                for _ in range(20):
                    run(*feeds)

            runs.append(twenty)
        return ratios(*in_turn(runs, rounds))


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that this program finds out; what fails is said in place of its figure."""
    peer, name, folder, rounds = options.peer, options.net, options.folder, options.rounds
    torch.set_num_threads(1)
    compared = Comparison(ADAPTERS[peer], name, folder, options.steps)
    found: dict[str, Any] = {"peer": peer, "net": name, "note": ADAPTERS[peer].note}
    found["float"] = accuracy(outputs(compared.net, compared.x), compared.labels)

    def kept(key: str, part: Callable[[], Any]) -> Any:
        try:
            result = part()
        except Exception as error:  # noqa: BLE001  a peer's failure is a result
            traceback.print_exc()
            found[key] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:160]}"
            return None
        found[key] = result
        return result

    compared.prepared(8)  # imports, and what is compiled at the first use
    kept("step", lambda: compared.steps_in_turn(rounds, found))
    before = peak()
    for bits in options.bits:
        if bits not in ADAPTERS[peer].bits:
            found[f"int{bits}"] = "not offered"
            continue
        results: list[dict[str, Any]] = []
        for seed in range(options.seeds):
            result: dict[str, Any] = {}
            results.append(result)
            found[f"int{bits}"] = results
            try:
                adapter, net = compared.trained(bits, seed)
                scores = outputs(net, compared.x)
                result["fake_quant"] = accuracy(scores, compared.labels)
                begun = time.process_time()
                file = folder / f"{peer}-{name}-{bits}.onnx"
                exported = adapter.export(net, compared.x[:1], file)
                result["export_s"] = round(time.process_time() - begun, 2)
                result["kib"] = round(file.stat().st_size / 1024)
                real = compared.run_in_onnxruntime(exported)
                result["onnxruntime"] = accuracy(real, compared.labels)
                far = np.abs(real.astype(np.float64) - scores)
                result["mean"] = round(float(far.mean() / scores.std()), 5)
                result["worst"] = round(float(far.max() / scores.std()), 4)
                result["same_class"] = round(
                    100 * float((real.argmax(1) == scores.argmax(1)).mean()), 2
                )
                if bits == 8 and not seed:
                    kept("speed", lambda exported=exported: compared.speed(exported, rounds))
            except Exception as error:  # noqa: BLE001
                traceback.print_exc()
                first = (str(error).strip() or "no text").splitlines()[0]
                result["failed"] = f"{type(error).__name__}: {first[:160]}"
                break
    found["peak_mib"] = round(peak())
    found["peak_before_training_mib"] = round(before)
    return found


def parser_of(description: str) -> argparse.ArgumentParser:
    """The parser of a program that measures one quantizer on one net."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("peer", choices=ADAPTERS)
    parser.add_argument("net", choices=task.NETS)
    parser.add_argument("folder", type=Path)
    return parser


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 4])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    begun = time.process_time()
    found = measured(options)
    found["steps"] = options.steps
    found["took_s"] = round(time.process_time() - begun)
    file = options.folder / f"{options.peer}-{options.net}.json"
    file.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
