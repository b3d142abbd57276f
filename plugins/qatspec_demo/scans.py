"""scikit-learn's digits: 1,797 real scans of handwritten digits, 8x8 pixels (UCI, Alpaydin &
Kaynak 1998), split so that training and validation never see the same scan."""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qatspec_demo.identity import require_scikit_learn

#: One scan in so many of each digit belongs to validation.
VAL_ONE_IN = 5
#: Chooses the split: fixed, so that every seed and picture count keeps it.
SPLIT_SEED = 20261123


class Scans(NamedTuple):
    """ink (K, 8, 8) float32 in 0..1, labels (K,) int64."""

    ink: NDArray[np.float32]
    labels: NDArray[np.int64]


def load_scans(split: str) -> Scans:
    """The scans of `train` or `val`. Raises DiagnosticError QS915 without scikit-learn."""
    require_scikit_learn()
    pixels, labels = _stored()
    ink = (pixels / 16).astype(np.float32)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    held_out = np.zeros(len(labels), bool)
    for digit in range(10):
        of_digit = order[labels[order] == digit]
        held_out[of_digit[: len(of_digit) // VAL_ONE_IN]] = True
    chosen = held_out if split == "val" else ~held_out
    return Scans(ink[chosen], labels[chosen])


def _stored() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """All scans (K, 8, 8) in 0..16 and their labels (K,), as load_digits of scikit-learn gives
    them: from its file, because importing scikit-learn takes longer than drawing 100 pictures."""
    file = Path(
        str(distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz"))
    )
    if file.is_file():
        table = np.loadtxt(file, delimiter=",")
        return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.images, digits.target.astype(np.int64)
