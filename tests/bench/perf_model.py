"""How near the model of time comes to published times: prints a table, judges nothing.

    python tests/bench/perf_model.py TABLE.csv [--march bayes-e] [--rows fit] [--set port=32 ...]

TABLE.csv has the columns chip, march, model, variant, input, batch, latency_ms, latency_setting,
fps, fps_setting, ddr_mb_per_frame. A row is compared by the time of the part on the chip alone:
its latency where that is a static estimate or BPU-only, else cores / saturated FPS. Rows whose net
is not among those built here are counted. The constants of a march are fitted on the rows whose key
(sha256 of chip|march|model|variant|input|batch) ends in an even digit; the others are the test.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import published_classifiers as classifiers
import published_nets as nets
from published_yolos import yolo
from qatspec_horizon.capabilities import BAYES, BAYES_E, BERNOULLI2

from qatspec.api import OpSupport, Program, Target, assemble, perf

Build = Callable[[], Program]


def _yolos() -> dict[str, Build]:
    found: dict[str, Build] = {}
    tasks = {"": "detect", "-pose": "pose", "-seg": "seg", "-cls": "cls"}
    for version, sizes in (("v8", "nsmlx"), ("11", "nsmlx")):
        for size in sizes:
            for ending, task in tasks.items():
                pixels = 224 if task == "cls" else 640
                found[f"yolo{version}{size}{ending}"] = lambda a=(version, size, task, pixels): (
                    yolo(*a)
                )
    for size in "nsmlx":
        found[f"yolov5{size}u"] = lambda s=size: yolo("v5", s)
        found[f"yolov5{size}_v7.0"] = lambda s=size: yolo("v5", s, "anchors")
    return found


#: the model as the table writes it, in lower case -> its layers
NETS: dict[str, Build] = {
    "mobilenetv1": nets.mobilenet_v1,
    "mobilenetv2": nets.mobilenet_v2,
    "mobilenetv3_large_100": classifiers.mobilenet_v3,
    "resnet18": nets.resnet18,
    "se-resnet50": classifiers.se_resnet50,
    "resnext50_32x4d": classifiers.resnext50,
    "googlenet": classifiers.googlenet,
    "efficientnet-lite0": lambda: classifiers.efficientnet("lite0", 1.0, 1.0, lite=True),
    "efficientnet-lite2": lambda: classifiers.efficientnet("lite2", 1.1, 1.2, 260, lite=True),
    "efficientnet-lite4": lambda: classifiers.efficientnet("lite4", 1.4, 1.8, 300, lite=True),
    "efficientnet-b0": nets.efficientnet_lite0,  # relu, without squeeze and excitation
    "efficientnet_b2": lambda: classifiers.efficientnet("b2", 1.1, 1.2),
    "efficientnet_b3": lambda: classifiers.efficientnet("b3", 1.2, 1.4),
    "efficientnet_b4": lambda: classifiers.efficientnet("b4", 1.4, 1.8),
    "repvgg_a1": lambda: classifiers.repvgg("repvgg_a1", (64, 128, 256, 1280)),
    "repvgg_a2": lambda: classifiers.repvgg("repvgg_a2", (96, 192, 384, 1408)),
    "mobileone_s1": lambda: classifiers.mobileone("mobileone_s1", (96, 192, 512, 1280)),
    "mobileone_s2": lambda: classifiers.mobileone("mobileone_s2", (96, 256, 640, 2048)),
    "mobileone_s4": lambda: classifiers.mobileone(
        "mobileone_s4", (192, 448, 896, 2048), (0, 0, 5, 1)
    ),
    "fasternet_t0": lambda: classifiers.fasternet("fasternet_t0", 40, (1, 2, 8, 2)),
    "fasternet_t1": lambda: classifiers.fasternet("fasternet_t1", 64, (1, 2, 8, 2)),
    "fasternet_t2": lambda: classifiers.fasternet("fasternet_t2", 96, (1, 2, 8, 2)),
    "fasternet_s": lambda: classifiers.fasternet("fasternet_s", 128, (1, 2, 13, 2)),
    **_yolos(),
}
#: march -> its capabilities, and how many cores a saturated FPS of the table uses.
MARCHES = {"bernoulli2": (BERNOULLI2, 2), "bayes": (BAYES, 2), "bayes-e": (BAYES_E, 1)}
_ANY = OpSupport(dtypes=("int8", "int16", "int32"), weights=("int8",))


def key_digit(row: dict[str, str]) -> int:
    """The last hexadecimal digit of a row's key."""
    key = "|".join(row[name] for name in ("chip", "march", "model", "variant", "input", "batch"))
    return int(hashlib.sha256(key.encode()).hexdigest()[-1], 16)


def published_ms(row: dict[str, str], cores: int) -> float | None:
    """The time of the part on the chip that a row states, None where it states none."""
    setting = row["latency_setting"]
    if any(words in setting for words in ("BPU-only", "static", "bpu latency", "BPU part")):
        return float(row["latency_ms"])
    if "layer table" in setting or not row["fps"] or row["fps_setting"] == "1-thread":
        return None
    return 1000.0 * cores / float(row["fps"])


def build(row: dict[str, str]) -> Build | None:
    """The net of a row. SiLU is no op of the chips with the march bernoulli2."""
    name = row["model"].lower().replace("_seg", "-seg").replace("_pose", "-pose")
    if row["march"] == "bernoulli2" and name.startswith("yolo"):
        return None
    if name == "mobilenetv2" and row["input"] == "32x32":
        return nets.mobilenet_v2_cifar
    sizes = {"efficientnet-lite2": "260x260", "efficientnet-lite4": "300x300"}
    detects = name.startswith("yolo") and not name.endswith("-cls")
    size = sizes.get(name, "640x640" if detects else "224x224")
    return NETS.get(name) if row["input"].startswith(size) else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--opt", default="balance")
    parser.add_argument("--march", action="append", choices=list(MARCHES))
    parser.add_argument("--rows", choices=["all", "fit", "test"], default="all")
    parser.add_argument(
        "--only", nargs="*", default=[""], help="models with one of these in their names"
    )
    parser.add_argument("--set", nargs="*", default=[], metavar="FIGURE=VALUE")
    arguments = parser.parse_args()
    changes = {name: float(value) for name, value in (s.split("=") for s in arguments.set)}
    with arguments.table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for march in arguments.march or MARCHES:
        mine = [r for r in rows if r["march"] == march and r["batch"] == "1"]
        _report(march, mine, arguments, changes)


def _report(
    march: str, rows: list[dict[str, str]], arguments: argparse.Namespace, changes: dict[str, float]
) -> None:
    capabilities, cores = MARCHES[march]
    target = Target.of(march, 1, capabilities)
    ops = dict.fromkeys((*target.ops, "matmul"), _ANY)
    # the published times are of the chip alone
    hardware = replace(target.hardware, **changes)
    target = replace(target, ops=ops, host=None, hardware=hardware)
    modelled: dict[Build, dict[str, float]] = {}
    errors: dict[str, list[float]] = {"fit": [], "test": []}
    traffic: list[float] = []
    skipped = 0
    print(
        f"{march}\n{'model':<24}{'rows':<6}{'published':>10}{'modelled':>10}{'error':>8}  DDR MiB"
    )
    for row in sorted(rows, key=lambda row: published_ms(row, cores) or 0.0):
        part = "test" if key_digit(row) % 2 else "fit"
        net, published = build(row), published_ms(row, cores)
        other_clock = "1.2 GHz" in row["chip"]
        if net is None or published is None or other_clock:
            skipped += 1
            continue
        named = any(words in row["model"].lower() for words in arguments.only)
        if arguments.rows not in ("all", part) or not named:
            continue
        if net not in modelled:
            start = time.process_time()
            program = net()
            modelled[net] = perf(assemble(program, target, opt=arguments.opt, verify=False))[
                "summary"
            ] | {"seconds": time.process_time() - start}
        summary = modelled[net]
        ratio = summary["latency (ms)"] / published
        errors[part].append(math.log(ratio))
        moved = f"{summary['DDR megabytes per frame']:.1f}"
        if row["ddr_mb_per_frame"]:
            traffic.append(summary["DDR megabytes per frame"] / float(row["ddr_mb_per_frame"]))
            moved += f" of {float(row['ddr_mb_per_frame']):.1f}"
        print(
            f"{row['model'][:22]:<24}{part:<6}{published:>10.3f}{summary['latency (ms)']:>10.3f}"
            f"{100 * (ratio - 1):>+7.1f}%  {moved}  ({summary['seconds']:.1f} s)",
            flush=True,
        )
    for part, found in errors.items():
        if found:
            sizes = sorted(math.exp(abs(e)) - 1 for e in found)
            print(
                f"{march}, {part} rows: {len(found)}, median error "
                f"{100 * statistics.median(sizes):.1f} %, worst {100 * sizes[-1]:.0f} %, bias "
                f"{100 * (math.exp(statistics.mean(found)) - 1):+.1f} %"
            )
    if traffic:
        shares = ", ".join(f"{100 * (t - 1):+.0f} %" for t in traffic)
        print(f"{march}: DDR bytes against published ones: {shares}")
    print(f"{march}: {skipped} rows without a net or without a time of the chip alone")


if __name__ == "__main__":
    main()
