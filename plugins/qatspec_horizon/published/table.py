"""The rows of published times, and the net of each. `rows.csv` holds facts alone: chip, net, size,
time and where it was printed."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from qatspec.api import Program, Target
from qatspec_horizon.capabilities import BAYES, BAYES_E, BERNOULLI2
from qatspec_horizon.nash import NASH_E, NASH_M, NASH_P
from qatspec_horizon.published import classifiers, detectors, gelan, mobile, nets
from qatspec_horizon.published.yolos import yolo

Build = Callable[[], Program]

#: What stands behind the name of a net whose activations are ops: an X3 leaves them to its CPU, and
#: the nash marches take time for them.
_TABLES = "activations as ops"

#: march of the table -> the march of qatspec, its capabilities
MARCHES = {
    "bernoulli2": ("bernoulli2", BERNOULLI2),
    "bayes": ("bayes", BAYES),
    "bayes-e": ("bayes_e", BAYES_E),
    "nash-e": ("nash_e", NASH_E),
    "nash-m": ("nash_m", NASH_M),
    "nash-p": ("nash_p", NASH_P),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A published time. ms: of one frame on one core; target: what it is a time of. ddr_mib: MiB
    through DDR a frame, None where the page does not print them. The other fields are written as
    the page writes them."""

    chip: str
    march: str
    model: str
    variant: str
    input: str
    batch: str
    ms: float
    target: str
    ddr_mib: float | None
    source: str

    @property
    def fits(self) -> bool:
        """Whether constants may be fitted on this row: the last hexadecimal digit of the sha256 of
        `chip|march|model|variant|input|batch` is even."""
        parts = (self.chip, self.march, self.model, self.variant, self.input, self.batch)
        return int(hashlib.sha256("|".join(parts).encode()).hexdigest()[-1], 16) % 2 == 0

    @property
    def net(self) -> str:
        """The name of its net in `NETS`."""
        name = self.model.lower().replace("_seg", "-seg").replace("_pose", "-pose")
        tables = f"{name}, {_TABLES}"
        counts = self.march == "bernoulli2" or self.march.startswith("nash")
        return tables if counts and tables in NETS else name

    def machine(self) -> Target:
        """The chip as it was measured: with the clock that the row states."""
        march, capabilities = MARCHES[self.march]
        target = Target.of(march, 1, capabilities)
        if "1.2 GHz" not in self.chip:
            return target
        return replace(target, hardware=replace(target.hardware, clock_mhz=1200))


def rows(march: str) -> list[Row]:
    """The rows of a march of the table ("bernoulli2", "bayes-e", ...), by time."""
    return sorted((row for row in _every_row() if row.march == march), key=lambda row: row.ms)


def figures_digest(march: str) -> str:
    """Eight hexadecimal digits that follow from every number of a march's model of time. README's
    table states those that it was made with."""
    target = Target.of(march, 1, MARCHES[march][1])
    hardware = {n: v for n, v in asdict(target.hardware).items() if _is_number(v)}
    host = target.host
    beside = [host.elements_per_us, host.start_us] if host else []
    text = json.dumps([sorted(hardware.items()), beside])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float))


@cache
def _every_row() -> tuple[Row, ...]:
    with (Path(__file__).parent / "rows.csv").open(newline="", encoding="utf-8") as file:
        return tuple(_row(record) for record in csv.DictReader(file))


def _row(record: Mapping[str, str]) -> Row:
    ddr = record["ddr_mib"]
    figures: dict[str, Any] = {"ms": float(record["ms"]), "ddr_mib": float(ddr) if ddr else None}
    return Row(**{**record, **figures})


def _yolos() -> dict[str, Build]:
    made: dict[str, Build] = {}
    tasks = {"": "detect", "-pose": "pose", "-seg": "seg", "-cls": "cls"}
    for version in ("v8", "11"):
        for size in "nsmlx":
            for ending, task in tasks.items():
                pixels = 224 if task == "cls" else 640
                made[f"yolo{version}{size}{ending}"] = partial(yolo, version, size, task, pixels)
    for size in "nsmlx":
        made[f"yolov5{size}u"] = partial(yolo, "v5", size)
        made[f"yolov5{size}_v7.0"] = partial(yolo, "v5", size, "anchors")
        made[f"yolov5{size}_v2.0"] = partial(detectors.yolov5_v2, size)
        made[f"yolov10{size}"] = partial(gelan.yolov10, size)
    made["yolov8n_obb"] = lambda: yolo("v8", "n", "obb", 1024)
    made |= {"yolov9s": gelan.yolov9s, "yolov9c": gelan.yolov9c, "yolov9e": gelan.yolov9e}
    made["yolov9c-seg"] = lambda: gelan.yolov9c(masks=True)
    return made


def _with_activations() -> dict[str, Build]:
    """Nets whose activations are ops."""
    made: dict[str, Build] = {"yolov10n": lambda: gelan.yolov10("n", "silu")}
    for size in "nsmlx":
        made[f"yolov5{size}_v7.0"] = partial(yolo, "v5", size, "anchors", activation="silu")
        made[f"yolov8{size}"] = partial(yolo, "v8", size, activation="silu")
        made[f"yolov8{size}-seg"] = partial(yolo, "v8", size, "seg", activation="silu")
        made[f"yolo11{size}"] = partial(yolo, "11", size, activation="silu")
        made[f"yolov5{size}u"] = partial(yolo, "v5", size, activation="silu")
    small = (48, 96, 192, 384), (2, 2, 14, 2)
    made["repvit"] = lambda: mobile.repvit("repvit_m0_9", *small, activation="gelu")
    return {f"{name}, {_TABLES}": build for name, build in made.items()}


def _classifiers() -> dict[str, Build]:
    c, m = classifiers, mobile
    made: dict[str, Build] = {
        "mobilenetv1": nets.mobilenet_v1,
        "mobilenetv2": nets.mobilenet_v2,
        "mobilenetv3_large_100": c.mobilenet_v3,
        "resnet18": nets.resnet18,
        "resnet152": lambda: nets.resnet50((3, 8, 36, 3)),
        "se-resnet50": c.se_resnet50,
        "resnext50_32x4d": c.resnext50,
        "googlenet": c.googlenet,
        "inception_v3": lambda: detectors.inception_v3(395),
        "efficientnet-lite0": lambda: c.efficientnet("lite0", 1.0, 1.0, lite=True),
        "efficientnet_lite0": lambda: c.efficientnet("lite0", 1.0, 1.0, lite=True),
        "efficientnet_lite1": lambda: c.efficientnet("lite1", 1.0, 1.1, 240, lite=True),
        "efficientnet_lite4": lambda: c.efficientnet("lite4", 1.4, 1.8, 380, lite=True),
        "efficientnet-lite2": lambda: c.efficientnet("lite2", 1.1, 1.2, 260, lite=True),
        "efficientnet-lite4": lambda: c.efficientnet("lite4", 1.4, 1.8, 300, lite=True),
        "efficientnet-b0": nets.efficientnet_lite0,  # relu, without squeeze and excitation
        "repvgg_a1": lambda: c.repvgg("repvgg_a1", (64, 128, 256, 1280)),
        "repvgg_a2": lambda: c.repvgg("repvgg_a2", (96, 192, 384, 1408)),
        "mobileone_s1": lambda: c.mobileone("mobileone_s1", (96, 192, 512, 1280)),
        "mobileone_s2": lambda: c.mobileone("mobileone_s2", (96, 256, 640, 2048)),
        "mobileone_s4": lambda: c.mobileone("mobileone_s4", (192, 448, 896, 2048), (0, 0, 5, 1)),
        "repvit_m0_9": lambda: m.repvit("repvit_m0_9", (48, 96, 192, 384), (2, 2, 14, 2)),
        "repvit_m1_1": lambda: m.repvit("repvit_m1_1", (64, 128, 256, 512), (2, 2, 12, 2)),
        "repghost": lambda: m.repghost("repghost_100", 1.0),
        "fastvit_t8": m.fastvit_t8,
    }
    for name, width, depth in (("b2", 1.1, 1.2), ("b3", 1.2, 1.4), ("b4", 1.4, 1.8)):
        made[f"efficientnet_{name}"] = partial(c.efficientnet, name, width, depth)
    for name, width, depths in (
        ("t0", 40, (1, 2, 8, 2)), ("t1", 64, (1, 2, 8, 2)), ("t2", 96, (1, 2, 8, 2)),
        ("s", 128, (1, 2, 13, 2)),
    ):  # fmt: skip
        made[f"fasternet_{name}"] = partial(c.fasternet, f"fasternet_{name}", width, depths)
    for percent in (100, 130, 150):
        made[f"repghostnet_{percent}"] = partial(m.repghost, f"repghost_{percent}", percent / 100)
    for size in ("small", "medium"):
        made[f"mobilenetv4_conv_{size}"] = partial(m.mobilenet_v4, f"mobilenetv4_conv_{size}")
    return made


#: the model as the table writes it, in lower case -> its layers
NETS: dict[str, Build] = {
    **_classifiers(),
    "mobilenet_ssd": detectors.mobilenet_ssd,
    "efficientdet": detectors.efficientdet,
    "efficientdet (dequant removed)": detectors.efficientdet,
    "deeplabv3+ (modified)": detectors.deeplab,
    "yolov5s": lambda: detectors.yolov5_v2("s", 672),
    **_yolos(),
    **_with_activations(),
}
