"""Built-in records of this package, registered through the same entry points as any plugin."""

from __future__ import annotations

from collections.abc import Iterable

from qatspec.hookspecs import hookimpl
from qatspec.types import ObserverDef, lazy


@hookimpl
def qatspec_observers() -> Iterable[ObserverDef]:
    """The built-in ways to find a range."""
    return (
        ObserverDef(
            name="min_max",
            summary="the extremes of everything seen",
            build=lazy("qatspec.quant.observers:MinMaxObserver"),
        ),
        ObserverDef(
            name="moving_average",
            summary="moving average of each batch's extremes",
            build=lazy("qatspec.quant.observers:MovingAverageMinMaxObserver"),
        ),
        ObserverDef(
            name="percentile",
            summary="the magnitude that a percentage of all numbers stays below",
            build=lazy("qatspec.quant.clipping:percentile"),
        ),
        ObserverDef(
            name="mse",
            summary="the clipping point with the least mean square error",
            build=lazy("qatspec.quant.clipping:mse"),
        ),
        ObserverDef(
            name="kl",
            summary="the clipping point with the least divergence between histograms",
            build=lazy("qatspec.quant.clipping:KLObserver"),
        ),
        ObserverDef(
            name="mix",
            summary="the best of min_max, percentile, mse and kl, tensor by tensor",
            build=lazy("qatspec.quant.clipping:MixObserver"),
        ),
        ObserverDef(
            name="fixed_scale",
            summary="a scale known beforehand",
            build=lazy("qatspec.quant.observers:FixedScaleObserver"),
        ),
    )
