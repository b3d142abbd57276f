"""How near the model of time comes to published times: prints a table, judges nothing.

    python tests/bench/perf_model.py TABLE.csv [--opt O2]

TABLE.csv has the columns chip, march, model, variant, input, batch, latency_ms, latency_setting,
source. Rows are used whose net can be expressed as a list of layers and whose chip is a Bernoulli2
or a Bayes; rows of whole tasks with CPU time in them are marked.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Callable
from pathlib import Path

import published_nets as nets
from qatspec_horizon.capabilities import BAYES, BERNOULLI2

from qatspec.api import Program, Target, assemble, perf

#: (model as the table writes it, input) -> its layers
NETS: dict[tuple[str, str], Callable[[], Program]] = {
    ("mobilenetv1", "224x224"): nets.mobilenet_v1,
    ("mobilenetv2", "32x32"): nets.mobilenet_v2_cifar,
    ("resnet18", "224x224"): nets.resnet18,
    ("resnet50", "224x224"): nets.resnet50,
    ("efficientnet-lite0", "224x224"): nets.efficientnet_lite0,
    ("efficientnet-b0", "224x224"): nets.efficientnet_lite0,
}
TARGETS = {"bernoulli2": BERNOULLI2, "bayes": BAYES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--opt", default="O2", choices=["O0", "O1", "O2", "O3"])
    arguments = parser.parse_args()
    with arguments.table.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["batch"] == "1"]
    modelled: dict[tuple[str, str], dict[str, float]] = {}
    logs: dict[str, list[float]] = {}
    print(f"{'march':<11}{'model':<20}{'published':>10}{'modelled':>10}{'error':>8}  setting")
    for row in rows:
        march = row["march"].split()[0].rstrip("?")
        build = NETS.get((row["model"].lower(), row["input"]))
        if march not in TARGETS or build is None:
            continue
        key = (march, build.__name__)
        if key not in modelled:
            start = time.perf_counter()
            target = Target.of(march, 1, TARGETS[march])
            summary = perf(assemble(build(), target, opt=arguments.opt))["summary"]
            modelled[key] = summary | {"seconds": time.perf_counter() - start}
        published, mine = float(row["latency_ms"]), modelled[key]["latency (ms)"]
        task = "whole task with CPU: " if "hrt_model_exec perf 1 thread" in str(row) else ""
        if not task:
            logs.setdefault(march, []).append(math.log(mine / published))
        print(
            f"{march:<11}{row['model']:<20}{published:>7.3f} ms{mine:>7.3f} ms"
            f"{100 * (mine / published - 1):>+7.1f}%  {row['chip']}: {task}{row['latency_setting']}"
        )
    for march, errors in logs.items():
        mean = math.exp(sum(map(abs, errors)) / len(errors))
        print(f"{march}: geometric mean error {100 * (mean - 1):.0f} % over {len(errors)} rows")
    for (march, name), summary in modelled.items():
        print(
            f"{march} {name}: {summary['BPU OPs per frame (effective)']:,} OPs, "
            f"{summary['loaded bytes per frame']:,} B loaded, "
            f"{summary['stored bytes per frame']:,} B stored, "
            f"compiled in {summary['seconds']:.1f} s"
        )


if __name__ == "__main__":
    main()
