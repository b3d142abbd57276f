"""Built-in records of this package, registered through the same entry points as any plugin."""

from __future__ import annotations

from collections.abc import Iterable

from qatspec.hookspecs import hookimpl
from qatspec.types import FusePattern, lazy

# canonical op names, "|" between alternatives
_CONV = "conv1d|conv2d|conv3d|conv_transpose1d|conv_transpose2d|conv_transpose3d|linear"
_NORM = "batch_norm1d|batch_norm2d|batch_norm3d|batch_norm"
_ACT = "relu|relu6|hardtanh|clamp"


@hookimpl
def qatspec_fuse_patterns() -> Iterable[FusePattern]:
    """Return the chains of conv or linear with batch norm, add and rectifier, and of add with
    rectifier."""
    parts = {"norm": _NORM, "add": "add", "act": _ACT}
    chains = (
        ("norm",),
        ("add",),
        ("act",),
        ("norm", "add"),
        ("norm", "act"),
        ("add", "act"),
        ("norm", "add", "act"),
    )
    check = lazy("qatspec.prepare.patterns:check_chain")
    conv = [
        FusePattern(
            name="_".join(("conv", *chain)),
            summary="conv or linear with " + ", ".join(chain),
            pattern=(_CONV, *(parts[part] for part in chain)),
            check=check,
        )
        for chain in chains
    ]
    return (
        *conv,
        FusePattern(name="sum_act", summary="sum with a rectifier", pattern=("add|sub", _ACT)),
    )
