"""What a training does on a GPU, as one prepared script: to be run where a card can be had.

    python tests/bench/gpu.py                              the quickstart on cuda
    python tests/bench/gpu.py --set vars.fast=1            in its short form
    python tests/bench/gpu.py --device cpu --spec SPEC     a dry run without a GPU

Prints the card's name and a table: the same bytes from two runs, metrics under `amp` and `compile`
beside those of float32, the time of a step of qat over one of float, the share of a step's time
that the loop waited for data, and several processes (nccl; gloo on the CPU). With one card there is
one process of nccl, which averages with itself. Exit code 1 where a check fails.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qatspec.engine import run
from qatspec.plan import resolve
from qatspec.registry import registry
from qatspec.spec import load

QUICKSTART = Path(__file__).resolve().parents[2] / "specs" / "quickstart.yaml"
#: What `both` stages are trained with.
VARIANTS = {"amp bf16": ("amp", "bf16"), "amp fp16": ("amp", "fp16"), "compile": ("compile", True)}


@dataclass(frozen=True)
class Trained:
    """A run up to convert: its metrics by stage, its profiles by stage, and its folder."""

    metrics: Mapping[str, Mapping[str, float]]
    profiles: Mapping[str, Mapping[str, Any]]
    memory: int | None
    folder: Path


class Checks:
    """The checks on one device. Each prints its rows; `failed` names those that do not hold."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.failed: list[str] = []
        self._metric = ""

    def train(self, name: str, *overrides: str) -> Trained:
        """Run the spec in a folder of its own, from the beginning."""
        spec = load(
            self.options.spec,
            (*self.options.overrides, *overrides),
            allow_code=self.options.allow_code,
        )
        self._metric = registry().dataset(spec.data["val"].dataset.type).metric
        plan = resolve(spec, device=self.options.device.partition(":")[0])
        folder = self.options.workdir / name.replace(" ", "-")
        shutil.rmtree(folder, ignore_errors=True)
        profiles: dict[str, Any] = {}
        memory: list[int] = []

        def hear(event: Any) -> None:
            if event.kind == "profile":
                profiles[event.step] = event.data
            if event.kind == "resources" and event.data["device_memory_bytes"] is not None:
                memory.append(event.data["device_memory_bytes"])

        summary = run(
            plan, folder, step="convert", with_deps=True, device=self.options.device,
            on_event=hear, profile=True,
        )  # fmt: skip
        return Trained(summary["metrics"], profiles, max(memory, default=None), folder)

    def figures(self, trained: Trained) -> str:
        """The metric of each stage in one line."""
        values = (f"{s} {m[self._metric]:.2f}" for s, m in trained.metrics.items())
        return f"{self._metric}: {', '.join(values)}"

    def same_bytes(self) -> None:
        """Two runs give the same checkpoints and the same Program."""
        first, second = self.train("first"), self.train("second")
        ours, theirs = _digests(first.folder), _digests(second.folder)
        differing = sorted(n for n in {*ours, *theirs} if ours.get(n) != theirs.get(n))
        words = ", ".join(differing) or f"{len(ours)} files, {self.figures(first)}"
        self.demand("same bytes", bool(ours) and not differing, words)
        self.steps(first)

    def steps(self, trained: Trained) -> None:
        """The time of a step by stage, its ratio to float, and how long it waited for data."""
        of_float = None
        for stage in ("float", "qat"):
            seconds = dict(trained.profiles[stage]["seconds"])
            seconds.pop("eval", None)
            total = sum(seconds.values())
            one = total / trained.profiles[stage]["steps"]
            of_float = of_float or one
            shown = f"{1000 * one:.1f} ms a step, {one / of_float:.2f} of float, "
            self.row(f"step of {stage}", f"{shown}data {seconds['data'] / total:.1%}")
        if trained.memory is not None:
            self.row("memory", f"{trained.memory / 2**20:.0f} MiB of the GPU at most")

    def variants(self) -> None:
        """Mixed precision and compiled training end with a metric."""
        for name, (key, value) in VARIANTS.items():
            said = f"{value}".lower()
            settings = [f"stages.{stage}.trainer.{key}={said}" for stage in ("float", "qat")]
            trained = self.train(name, *settings)
            self.demand(name, "integer" in trained.metrics, self.figures(trained))

    def processes(self) -> None:
        """Several processes train one model; with one card, nccl averages over one."""
        on_gpu = self.options.device.startswith("cuda")
        count = torch.cuda.device_count() if on_gpu else 2
        if count < 2:
            self.demand("nccl, one process", _averages_alone(), "DistributedDataParallel")
            return
        line = [sys.executable, "-m", "qatspec", "run", str(self.options.spec)]
        for override in self.options.overrides:
            line += ["--set", override]
        folder = self.options.workdir / "processes"
        shutil.rmtree(folder, ignore_errors=True)
        line += ["--nproc", str(count), "--step", "qat", "--with-deps", "--workdir", str(folder)]
        line += ["--device", self.options.device, "--quiet"]
        line += ["--allow-code"] if self.options.allow_code else []
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        backend = "nccl" if on_gpu else "gloo"
        words = done.stderr.strip().splitlines()[-1:] if done.returncode else ["qat is trained"]
        self.demand(f"{backend}, {count} processes", done.returncode == 0, " ".join(words))

    def demand(self, name: str, holds: bool, words: str) -> None:
        """Print the outcome of a check."""
        self.row(name, f"{'ok' if holds else 'FAILED'}  {words}")
        if not holds:
            self.failed.append(name)

    def row(self, name: str, words: str) -> None:
        """Print a row of the table."""
        print(f"{name:<20} {words}", flush=True)


def _digests(folder: Path) -> dict[str, str]:
    files = [*folder.glob("*/*.pth.tar"), *folder.glob("convert/*.program")]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _averages_alone() -> bool:
    """Return whether DDP over nccl in a world of one gives the gradient of the module alone."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29511")
    torch.distributed.init_process_group("nccl", rank=0, world_size=1)
    try:
        module = torch.nn.Linear(4, 2).cuda()
        x = torch.ones(3, 4, device="cuda")
        module(x).sum().backward()
        expected = module.weight.grad.clone()
        module.zero_grad()
        torch.nn.parallel.DistributedDataParallel(module, device_ids=[0])(x).sum().backward()
        return torch.equal(expected, module.weight.grad)
    finally:
        torch.distributed.destroy_process_group()


def main() -> int:
    """Run the checks and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--spec", type=Path, default=QUICKSTART)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--workdir", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--only", choices=("same_bytes", "variants", "processes"))
    parser.add_argument("--allow-code", action="store_true")
    options = parser.parse_args()
    on_gpu = options.device.startswith("cuda")
    if on_gpu and not torch.cuda.is_available():
        parser.error("torch finds no GPU; --device cpu is a dry run")
    card = torch.cuda.get_device_name(options.device) if on_gpu else platform.processor() or "CPU"
    print(f"{card}, torch {torch.__version__}, {options.spec.name}")
    checks = Checks(options)
    every: dict[str, Callable[[], None]] = {
        "same_bytes": checks.same_bytes,
        "variants": checks.variants,
        "processes": checks.processes,
    }
    for name, check in every.items():
        if options.only in (None, name):
            check()
    print(f"failed: {', '.join(checks.failed)}" if checks.failed else "every check holds")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
