"""What a spec can get wrong that its schema cannot say. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qatspec.api import Finding
from qatspec_vision.blocks import last_stages, stages_of

if TYPE_CHECKING:
    from qatspec.api import Spec

#: Where a spec says the strides of `yolo`.
_STRIDES = "/model/params/strides"


def num_classes(params: Mapping[str, Any]) -> int | None:
    """The number of classes of a model with these params; None: the library decides."""
    return params.get("num_classes")


def check_fcos(spec: Spec) -> Iterator[Finding]:
    """Strides that the backbone has, levels that the neck has, a size that divides evenly."""
    if not _is_ours(spec, "fcos"):
        return
    backbone = spec.model.params["backbone"]
    at = "/model/params/backbone/strides"
    strides = list(backbone["strides"])
    reached = list(last_stages(stages_of(backbone.get("blocks"), backbone["variant"])))
    for stride in strides:
        if stride not in reached:
            advice = f"write strides that it has, such as `strides: {reached[-len(strides) :]}`"
            yield _error(
                at, f"the backbone has no map of stride {stride}, only of {reached}", advice
            )
            return
    if strides != (doubled := _doubled(strides)):
        message = f"each stride must be twice the one before, not {strides}"
        yield _error(at, message, f"write `strides: {doubled}`")
        return

    levels = spec.model.params["neck"]["levels"]
    if levels < len(strides):
        yield _error(
            "/model/params/neck/levels",
            f"{len(strides)} backbone maps do not fit {levels} neck levels",
            f"write `levels: {len(strides)}`, or fewer `strides` of the backbone",
        )
        return
    coarsest = strides[0] * 2 ** (levels - 1)
    yield from _check_sizes(spec, coarsest, f"the stride of the coarsest of {levels} levels")


def check_yolo(spec: Spec) -> Iterator[Finding]:
    """Strides that are powers of two in a row, a size that divides evenly."""
    if not _is_ours(spec, "yolo"):
        return
    strides = list(spec.model.params["strides"])
    if strides != (doubled := _doubled(strides)):
        message = f"each stride must be twice the one before, not {strides}"
        yield _error(_STRIDES, message, f"write `strides: {doubled}`")
    elif strides[0] & (strides[0] - 1):
        doubled = _doubled([1 << (strides[0].bit_length() - 1), *strides[1:]])
        message = f"strides must be powers of two, not {strides}"
        yield _error(_STRIDES, message, f"write `strides: {doubled}`")
    else:
        yield from _check_sizes(spec, strides[-1], "the stride of the coarsest map")


def check_efficientnet(spec: Spec) -> Iterator[Finding]:
    """Stages of the classifier that end at the stride that it pools."""
    if _is_ours(spec, "efficientnet"):
        yield from _check_blocks(spec, (32,))


def check_deeplab(spec: Spec) -> Iterator[Finding]:
    """A backbone with the strides that the head takes, branches that are whole, a size that
    divides evenly."""
    if not _is_ours(spec, "deeplabv3plus"):
        return
    head = spec.model.params["head"]
    yield from _check_blocks(spec, (8, 16, 32))
    if len(head["dilations"]) != len(head["repeats"]):
        yield _error(
            "/model/params/head/repeats",
            f"{len(head['dilations'])} dilations need as many repeats, not {len(head['repeats'])}",
            f"write {len(head['dilations'])} numbers, one for each of `dilations`",
        )
    yield from _check_sizes(spec, 32, "the stride of the coarsest map")


def check_loaders(spec: Spec) -> Iterator[Finding]:
    """A data set that feeds the model something else than `model.input` says. Only data.val must be
    of its size: training may crop.

    Looks at every set that takes the params of qatspec_vision.params.PICTURE."""
    if spec.input is None:  # several pictures, or none: these sets are not for such a model
        return
    told = {key: getattr(spec.input, key) for key in ("size", "format", "mean", "std", "resize")}
    for data in _roles(spec):
        params: dict[str, Any] = dict(data.dataset.params)
        if not {"size", "format", "mean", "std"} <= params.keys():
            continue
        params["size"] = _size_of(params)
        for key, value in told.items():
            if key not in params or _same(params[key], value):
                continue
            if key != "size" or data is spec.data.get("val"):
                yield _error(
                    f"{data.at}/params/{key}",
                    f"the data set gives {key} {_shown(params[key])}, `model.input` says "
                    f"{_shown(value)}",
                    f"give both the same {key}, here and in `model.input`",
                )


def _check_blocks(spec: Spec, strides: tuple[int, ...]) -> Iterator[Finding]:
    """A backbone whose stages end at all strides that the model reads."""
    backbone = spec.model.params["backbone"]
    reached = last_stages(stages_of(backbone.get("blocks"), backbone["variant"]))
    if missing := [stride for stride in strides if stride not in reached]:
        yield _error(
            "/model/params/backbone/blocks",
            f"the backbone has no map of stride {missing[0]}, only of {list(reached)}",
            f"give its `blocks` a stage with `stride: 2` that reaches {missing[0]}, or delete "
            "`blocks`: the variant has some",
        )


def _is_ours(spec: Spec, name: str) -> bool:
    """Return whether the model is this package's `name`, not one of a user's file with its name."""
    return (spec.model.plugin, spec.model.type) == ("vision", name)


def _check_sizes(spec: Spec, multiple: int, because: str) -> Iterator[Finding]:
    """Sides of the model's input, and of what the data sets feed it, that are no multiples."""
    pictures = {} if spec.input is None else {f"{spec.input.at}/size": spec.input.size}
    sizes = {at: list(size) for at, size in pictures.items()}
    for data in _roles(spec):
        if "size" in data.dataset.params:
            sizes[f"{data.at}/params/size"] = _size_of(data.dataset.params)
    for at, size in sizes.items():
        if any(side % multiple for side in size):
            near = [max(multiple, round(side / multiple) * multiple) for side in size]
            message = f"both sides must be multiples of {multiple}, {because}"
            yield _error(at, message, f"write `size: {near}`")


def _doubled(strides: list[int]) -> list[int]:
    """As many strides, each twice the one before."""
    return [strides[0] * 2**level for level in range(len(strides))]


def _same(one: Any, other: Any) -> bool:
    """Return whether two values of a key mean the same: one number stands for every channel."""
    one, other = (list(v) if isinstance(v, list | tuple) else v for v in (one, other))
    if isinstance(one, list) != isinstance(other, list):
        many, single = (one, other) if isinstance(one, list) else (other, one)
        return all(entry == single for entry in many)
    return bool(one == other)


def _shown(value: Any) -> str:
    return repr(list(value) if isinstance(value, tuple) else value)


def _roles(spec: Spec) -> Iterable[Any]:
    """The data as written, each once: without calibration data, calibration takes train's."""
    return {data.at: data for data in spec.data.values()}.values()


def _size_of(params: Mapping[str, Any]) -> list[int]:
    size = params["size"]
    return [size, size] if isinstance(size, int) else list(size)


def _error(at: str, message: str, advice: str) -> Finding:
    return Finding(at=at, message=message, help=advice, severity="error")
