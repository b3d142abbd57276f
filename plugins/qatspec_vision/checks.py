"""What a spec can get wrong that its schema cannot say. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from qatspec.api import Finding
from qatspec_vision.blocks import last_stages, stages_of

if TYPE_CHECKING:
    from qatspec.api import Spec


def check_fcos(spec: Spec) -> Iterator[Finding]:
    """Strides that the backbone has, levels that the neck has, a size that divides evenly."""
    if spec.model.type != "fcos":
        return
    backbone = spec.model.params["backbone"]
    at = "/model/params/backbone/strides"
    strides = list(backbone["strides"])
    reached = list(last_stages(stages_of(backbone.get("blocks"))))
    for stride in strides:
        if stride not in reached:
            yield _error(at, f"the backbone has no map of stride {stride}, only of {reached}")
            return
    if strides != [strides[0] * 2**level for level in range(len(strides))]:
        yield _error(at, f"each stride must be twice the one before, not {strides}")
        return

    levels = spec.model.params["neck"]["levels"]
    if levels < len(strides):
        yield _error(
            "/model/params/neck/levels",
            f"{len(strides)} backbone maps do not fit {levels} neck levels",
        )
        return
    coarsest = strides[0] * 2 ** (levels - 1)
    if any(side % coarsest for side in spec.input.size):
        yield _error(
            "/model/input/size",
            f"both sides must be multiples of {coarsest}, the stride of the coarsest of {levels} "
            f"levels",
        )


def check_loaders(spec: Spec) -> Iterator[Finding]:
    """A data set that feeds the model something else than `model.input` says.

    Looks at every set that takes the params of qatspec_vision.params.LOADER."""
    told = {
        "size": list(spec.input.size),
        "format": spec.input.format,
        "mean": spec.input.mean,
        "std": spec.input.std,
    }
    for role, data in spec.data.items():
        given: dict[str, Any] = dict(data.dataset.params)
        if not told.keys() <= given.keys():
            continue
        if isinstance(given["size"], int):
            given["size"] = [given["size"]] * 2
        for key, value in told.items():
            if given[key] != value:
                yield _error(
                    f"/data/{role}/params/{key}",
                    f"the data set gives {key} {given[key]!r}, `model.input` says {value!r}",
                )


def _error(at: str, message: str) -> Finding:
    return Finding(at=at, message=message, severity="error")
