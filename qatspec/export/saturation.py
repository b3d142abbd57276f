"""Sums of two 8-bit products that do not fit 16 bits, on x86 CPUs without VNNI.

There onnxruntime multiplies uint8 by int8 with vpmaddubsw, which adds the products of two adjacent
inputs in a saturating int16 (Intel 64 and IA-32 Architectures Software Developer's Manual, volume
2, PMADDUBSW). CPUs with VNNI (vpdpbusd) and ARM sum in int32.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qatspec.diag import Diagnostic
from qatspec.diag.codes import QS732

#: The session option with which onnxruntime avoids it: weights become uint8 as well, whose kernels
#: sum in int32. onnxruntime 1.32 does so on a CPU with VNNI too, at half the speed.
PRECISION = "session.x64quantprecision"
#: layers that a message names
_NAMED = 6


def pair_bound(weight: np.ndarray) -> int:
    """Return the largest sum of two adjacent products of a layer, for any uint8 input.

    weight: integers, (output channels, inputs of a group, kernel...). Kernels read it with the
    inputs first or last, so that both orders count: 255 * max(|w1| + |w2|) over output channels and
    adjacent w1, w2.
    """
    magnitude = np.abs(weight.astype(np.int64))
    orders = (magnitude, np.moveaxis(magnitude, 1, -1)) if magnitude.ndim > 1 else (magnitude,)
    flat = [order.reshape(len(order), -1) for order in orders]
    return 255 * max(
        int((row[:, :-1] + row[:, 1:]).max(initial=0)) if row.shape[1] > 1 else int(row.max())
        for row in flat
    )


def saturating(weights: Mapping[str, np.ndarray]) -> list[str]:
    """Return the layers, by name, whose pair of products may exceed int16."""
    return [name for name, weight in weights.items() if pair_bound(weight) > np.iinfo(np.int16).max]


def advice(weights: Mapping[str, np.ndarray]) -> tuple[Diagnostic, ...]:
    """Return QS732, what to do on a CPU without VNNI, unless no layer can saturate."""
    layers = saturating(weights)
    named = ", ".join(f"`{name}`" for name in layers[:_NAMED])
    more = len(layers) - _NAMED
    warning = QS732.warning(
        f"on x86 CPUs without VNNI, onnxruntime adds pairs of products in 16 bits, and "
        f"{len(layers)} of {len(weights)} layers can exceed them: {named}"
        + (f" and {more} more, in the metadata of the QAT ONNX" if more > 0 else ""),
        help=f"set the session option `{PRECISION}` to `1` on such a CPU and leave it out on "
        "others, which it slows down; qatspec's own sessions test the CPU and set it",
    )
    return (warning,) if layers else ()
