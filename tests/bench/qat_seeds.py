r"""Settings of qat with several seeds, to integers: is their difference more than that of seeds?

    python tests/bench/qat_seeds.py                      float32, bf16 and fp16 on the quickstart
    python tests/bench/qat_seeds.py --seeds 0 1 --amp bf16 --set 'vars.train_images=[320, 48]' \
        --set 'vars.float_epochs=[6, 1]' --set 'vars.val_images=[80, 16]' \
        --set 'vars.qat_epochs=[1, 1]' --set stages.float.trainer.scheduler.warmup_steps=20
    python tests/bench/qat_seeds.py --spec SPEC

With --stored, qat starts from the float and calibration that the work directory holds, whatever
settings or version they are of.

Every variant is a candidate of stage qat (docs/candidates.md); each is then converted, and the
metric of the integer Program is printed with mean and spread (standard deviation of a sample).
Killed and started again, it goes on where it was. The work directory is that of --workdir.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch

from qatspec.engine import run
from qatspec.plan import resolve
from qatspec.registry import registry
from qatspec.spec import load

QUICKSTART = Path(__file__).resolve().parents[2] / "specs" / "quickstart.yaml"


def main() -> None:
    """Run every variant and print the table."""
    options = _options()
    variants = {"float32": "{}"} | {f: f"{{trainer: {{amp: {f}}}}}" for f in options.amp}
    candidates = ", ".join(f"{name}: {change}" for name, change in variants.items())
    overrides = [
        *options.overrides,
        f"stages.qat.candidates={{{candidates}}}",
        f"stages.qat.seeds={options.seeds}",
    ]
    spec = load(options.spec, overrides, allow_code=options.allow_code)
    device = torch.device(options.device).type
    plan = resolve(spec, device=device, threads=torch.get_num_threads())
    metric = registry().dataset(spec.data["val"].dataset.type).metric
    summary = run(
        plan, options.workdir, step="qat", with_deps=not options.stored, device=options.device
    )
    of_qat = {one["name"]: one["metrics"][metric] for one in summary["tried"]["candidates"]}
    integers = {c.name: _integers(c, options, device, metric) for c in spec.candidates}
    print(f"{'variant':<12} {'qat ' + metric:>18} {'integer ' + metric:>18}")
    if "float" in summary["metrics"]:  # it is not of this run with --stored
        print(f"{'float':<12} {summary['metrics']['float'][metric]:18.2f}")
    for group in variants:
        names = [c.name for c in spec.candidates if c.group == group]
        cells = [_cell([values[n] for n in names]) for values in (of_qat, integers)]
        print(f"{group:<12} {cells[0]:>18} {cells[1]:>18}   of {len(names)} seeds")
        print("  " + ", ".join(f"{n} {integers[n]:.2f}" for n in names))


def _integers(candidate, options: argparse.Namespace, device: str, metric: str) -> float:
    """The metric of the integer Program of a candidate, in its own work directory."""
    plan = resolve(candidate.spec, device=device, threads=torch.get_num_threads())
    folder = options.workdir / "candidates" / f"qat-{candidate.name}"
    summary = run(plan, folder, step="convert", device=options.device)
    return float(summary["metrics"]["integer"][metric])


def _cell(values: list[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.2f} ±{spread:.2f}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--spec", type=Path, default=QUICKSTART)
    parser.add_argument("--amp", nargs="*", default=["bf16", "fp16"], choices=["bf16", "fp16"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--workdir", type=Path, default=Path("runs/qat-seeds"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--stored", action="store_true")
    parser.add_argument("--allow-code", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
