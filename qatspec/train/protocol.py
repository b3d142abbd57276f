"""What models and data sets of plugins return, held against their interface (qatspec.types.task).

Each function raises PluginFault QS010, which names the method, what it returned, what is expected,
and the plugin's line.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard, cast

import numpy as np
import torch
from torch import Tensor, nn

from qatspec.diag import Diagnostic, PluginFault
from qatspec.diag.words import quote_list, suggest
from qatspec.picture import Pixels
from qatspec.registry import registry
from qatspec.spec.model import GivenInput, InputSpec, TensorSpec
from qatspec.train.samples import (
    ONE_PICTURE,
    PICTURE_DIMS,
    AnySample,
    Inputs,
    arrays_of,
    is_normalizable,
)
from qatspec.types import DatasetDef, ModelDef, PixelSample

_SHOWN = 3
_DEPTH = 3
#: methods of torch's data sets and of other frameworks that authors write in place of ours
_INSTEAD = {
    "sample": ("__getitem__",),
    "loss": ("compute_loss", "criterion", "training_step"),
    "predict": ("postprocess", "post_process", "decode"),
    "evaluate": ("metrics", "compute_metrics", "score"),
}


def check_model(definition: ModelDef, model: Any) -> nn.Module:
    """Return `model` if it is an nn.Module with forward, loss and predict."""
    if not isinstance(model, nn.Module):
        raise _returned_by_record(definition, "build", model, "an nn.Module")
    _demand_methods(model, ("forward", "loss", "predict"), definition)
    return model


def check_dataset(definition: DatasetDef, dataset: Any) -> Any:
    """Return `dataset` if it has classes, a length, sample and evaluate."""
    if dataset is None:
        raise _returned_by_record(definition, "open", dataset, "a data set")
    _demand_methods(dataset, ("__len__", "sample", "evaluate"), definition)
    with registry().attribute_errors_of(dataset, "__len__"):
        len(dataset)
    classes = getattr(dataset, "classes", None)
    if isinstance(classes, str) or not isinstance(classes, Sequence):
        message = f"`classes` of {name_of(dataset, definition)} is {describe(classes)}; "
        message += "expected a sequence of class names in label order"
        raise registry().interface_fault(message, "__init__", owner=dataset, record=definition)
    for label, name in enumerate(classes):
        if not isinstance(name, str | int):
            message = f"class {label} of {name_of(dataset, definition)} is {describe(name)}; "
            message += "expected its name"
            raise registry().interface_fault(message, "__init__", owner=dataset, record=definition)
    diagnostics = getattr(dataset, "diagnostics", ())
    if not _are_diagnostics(diagnostics):
        message = f"`diagnostics` of {name_of(dataset, definition)} is {describe(diagnostics)}; "
        message += "expected a sequence of Diagnostics"
        raise registry().interface_fault(message, "__init__", owner=dataset, record=definition)
    return dataset


def check_sample(
    dataset: Any, sample: Any, record: DatasetDef | None = None, inputs: Inputs = ONE_PICTURE
) -> AnySample:
    """Return what `sample` of a data set returned if a batch can be made of it.

    inputs: the model's inputs by name."""
    is_bytes, target = isinstance(sample, PixelSample), getattr(sample, "target", None)
    image = sample.pixels if is_bytes else getattr(sample, "image", None)
    if not (is_bytes or hasattr(sample, "image")):
        raise _returned(dataset, "sample", sample, _expected(inputs), record)
    if wrong := _other_arrays(image, inputs):
        several = isinstance(image, Mapping | Sequence) and not isinstance(image, str | bytes)
        raise _returned(dataset, "sample", wrong, _expected(inputs, several=several), record)
    if not isinstance(target, Mapping) or not isinstance(getattr(sample, "meta", None), Mapping):
        what = f"target {describe(target)} and meta {describe(getattr(sample, 'meta', None))}"
        raise _returned(dataset, "sample", what, _expected(inputs), record)
    for name, value in target.items():
        if not _is_numeric(value):
            what = f"{describe(value)} as target `{name}`"
            raise _returned(dataset, "sample", what, _expected(inputs), record)
    if not _are_diagnostics(getattr(sample, "warnings", ())):
        what = f"warnings that are {describe(sample.warnings)}"
        raise _returned(dataset, "sample", what, "a sequence of Diagnostics", record)
    return cast(AnySample, sample)


def _expected(inputs: Inputs, *, several: bool = False) -> str:
    """What a sample is. several: it has several arrays, of which the spec may not know."""
    if tuple(inputs) == ("",):
        one = "a Sample with a float32 image (C, H, W) and a mapping of names to arrays"
        more = "for several inputs, name the arguments of forward in `model.inputs` of the spec"
        return f"{one}; {more} and give a mapping of these names to arrays" if several else one
    forms = ", ".join(f"`{name}`: {_form(given)}" for name, given in inputs.items())
    return (
        f"a Sample whose image is a mapping of the names in `model.inputs` to arrays ({forms}), "
        "with a mapping of names to arrays as target"
    )


def _form(given: GivenInput) -> str:
    if isinstance(given, InputSpec):
        return "float32 (C, H, W)"
    numbers = "integers" if given.is_integer else given.dtype
    return f"{numbers} {_shape(given.shape)}"


def _other_arrays(image: Any, inputs: Inputs) -> str | None:
    """What is wrong with the arrays of a sample, in words; None where they fit."""
    arrays = image
    if tuple(inputs) == ("",) or (len(inputs) == 1 and isinstance(image, np.ndarray | Pixels)):
        arrays = dict.fromkeys(inputs, image)
    if not isinstance(arrays, Mapping):
        return f"an image that is {describe(image)}"
    if set(arrays) != set(inputs):
        return f"an image with the names {quote_list(sorted(map(str, arrays))) or 'of nothing'}"
    for name, given in inputs.items():
        if not _fits(arrays[name], given):
            where = f"`{name}`" if name else "an image"
            return f"{where} that is {describe(arrays[name])}"
    return None


def _fits(array: Any, given: GivenInput) -> bool:
    if isinstance(array, Pixels):
        return isinstance(given, InputSpec) and is_normalizable(array)
    if not isinstance(array, np.ndarray):
        return False
    if isinstance(given, TensorSpec) and given.is_integer:
        return array.dtype.kind in "iu" and array.shape == given.shape
    if array.dtype.newbyteorder("=") != np.float32:
        return False
    return (
        array.ndim == PICTURE_DIMS if isinstance(given, InputSpec) else (array.shape == given.shape)
    )


def check_equal_shapes(
    dataset: Any,
    samples: Sequence[AnySample],
    record: DatasetDef | None = None,
    inputs: Inputs = ONE_PICTURE,
) -> None:
    """Raise PluginFault unless each input of a batch has one shape."""
    columns = zip(*(arrays_of(sample, inputs) for sample in samples), strict=True)
    for name, column in zip(inputs, columns, strict=False):
        forms = [(one.values if isinstance(one, Pixels) else one).shape for one in column]
        for form in forms:
            if form != forms[0]:
                of = f"`{name}`" if name else "images"
                shapes = f"{_shape(forms[0])} and {_shape(form)}"
                what = f"{of} of {shapes} in one batch"
                raise _returned(dataset, "sample", what, "one shape for every index", record)


def losses_of(model: nn.Module, losses: Any) -> dict[str, Tensor]:
    """Return what `loss` of a model returned as scalars by name; one tensor is called "loss"."""
    named = {"loss": losses} if isinstance(losses, Tensor) else losses
    expected = "a scalar tensor, or a mapping of names to scalar tensors"
    if not isinstance(named, Mapping) or not named:
        raise _returned(model, "loss", losses, expected)
    for name, value in named.items():
        real = _has_values(value) and not value.is_complex()
        if not isinstance(name, str) or not real or value.numel() != 1:
            raise _returned(model, "loss", losses, expected)
    if torch.is_grad_enabled() and not any(value.requires_grad for value in named.values()):
        message = f"loss() of {name_of(model)} returned {describe(losses)} that depends on no "
        message += "parameter, so that nothing is trained"
        raise registry().interface_fault(message, "loss", owner=model)
    return {name: value.reshape(()) for name, value in named.items()}


def predictions_of(owner: Any, predictions: Any, images: int) -> list[dict[str, np.ndarray]]:
    """Return what `predict` returned as arrays, one mapping for each of `images` images."""
    expected = f"a list with one mapping of names to tensors for each of {images} images"
    if not isinstance(predictions, list | tuple) or len(predictions) != images:
        raise _returned(owner, "predict", predictions, expected)
    for prediction in predictions:
        is_keyed = isinstance(prediction, Mapping) and all(
            isinstance(name, str) and _has_values(value) for name, value in prediction.items()
        )
        if not is_keyed:
            raise _returned(owner, "predict", predictions, expected)
    return [{k: _array(v) for k, v in prediction.items()} for prediction in predictions]


def metrics_of(dataset: Any, definition: DatasetDef | None, metrics: Any) -> dict[str, float]:
    """Return what `evaluate` of a data set returned as numbers by name.

    A number that is not finite says that nothing decides the metric (no large object in the set):
    it is omitted, unless it is the metric that chooses the best checkpoint.
    """
    dataset, expected = getattr(dataset, "limited", dataset), "a mapping of names to numbers"
    if not isinstance(metrics, Mapping):
        raise _returned(dataset, "evaluate", metrics, expected, definition)
    numbers: dict[str, float] = {}
    for name, value in metrics.items():
        if not isinstance(name, str) or not _is_real(value) or np.size(value) != 1:
            raise _returned(dataset, "evaluate", metrics, expected, definition)
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise _returned(dataset, "evaluate", metrics, expected, definition) from error
        if math.isfinite(number):
            numbers[name] = number
    if definition is not None and definition.metric not in numbers:
        name, owner = definition.metric, f"evaluate() of {name_of(dataset, definition)}"
        if name in metrics:
            message = f"{owner} returned {describe(metrics[name])} for `{name}`, which chooses the "
            message += "best checkpoint; expected a number"
            raise registry().interface_fault(message, "evaluate", owner=dataset, record=definition)
        message = f"{owner} returned no metric `{name}`, which its DatasetDef names "
        near = suggest(name, sorted(numbers)) or "it returned none"
        message += f"as the one that chooses the best checkpoint ({near})"
        raise registry().interface_fault(message, "evaluate", owner=dataset, record=definition)
    return numbers


def describe(value: object, depth: int = _DEPTH) -> str:
    """A value as messages name it: its type, with shapes and sizes.

    depth: levels of lists and mappings whose items are described too.
    """
    if isinstance(value, Tensor):
        form = "" if _has_values(value) else "meta " if value.is_meta else "sparse "
        dtype = str(value.dtype).removeprefix("torch.")
        return f"a {form}tensor {_shape(value.shape)} of {dtype}"
    if isinstance(value, np.ndarray):
        return f"an array {_shape(value.shape)} of {value.dtype}"
    if isinstance(value, Pixels):
        return f"Pixels of {describe(value.values)}, mean {value.mean} and std {value.std}"
    if isinstance(value, Mapping | list | tuple):
        return f"a {type(value).__name__} of {len(value)}{_items(value, depth - 1)}"
    if value is None or isinstance(value, bool | int | float):
        return str(value)
    return f"a {type(value).__name__}"


def _items(value: Mapping[Any, Any] | Sequence[Any], depth: int) -> str:
    if not value or depth < 0:
        return ""
    if not isinstance(value, Mapping):
        return f", the first {describe(value[0], depth)}"
    first = list(value.items())[:_SHOWN]
    keys = (f"`{k}`" if isinstance(k, str) else describe(k, depth) for k, _ in first)
    shown = [f"{key}: {describe(v, depth)}" for key, (_, v) in zip(keys, first, strict=True)]
    return f" ({', '.join(shown)}{', ...' if len(value) > _SHOWN else ''})"


def _are_diagnostics(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(v, Diagnostic) for v in value)


def _is_numeric(value: object) -> bool:
    """Whether torch has a real dtype for `value` as an array: no ragged list, no longdouble."""
    try:
        dtype = np.asarray(value).dtype
    except (TypeError, ValueError, RuntimeError):
        return False
    return dtype.kind in "biuf" and dtype.itemsize <= 8


def _is_real(value: object) -> bool:
    """Whether `float` keeps all of a number, an array or a tensor: no complex number, no text."""
    if isinstance(value, Tensor):
        return _has_values(value) and not value.is_complex()
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind in "biuf"
    return isinstance(value, int | float)


def target_tensor(value: object) -> Tensor:
    """A target as a tensor, which has neither negative strides nor a foreign byte order."""
    array = np.asarray(value)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C", copy=False))


def _has_values(value: object) -> TypeGuard[Tensor]:
    """Whether `value` is a dense tensor with data, which is neither sparse nor a meta tensor."""
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta


def _array(value: Tensor) -> np.ndarray:
    """The values of a tensor; bfloat16, which numpy lacks, as float32."""
    value = value.detach().cpu().resolve_conj().resolve_neg()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


def _shape(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))})"


def _demand_methods(owner: Any, methods: Sequence[str], record: Any) -> None:
    for method in methods:
        has = getattr(owner, method, None)
        if method == "forward" and type(owner).forward is nn.Module.forward:
            has = None  # torch's own raises NotImplementedError
        if not callable(has):
            message = f"{name_of(owner, record)} has no method `{method}`"
            there = [name for name in _INSTEAD.get(method, ()) if hasattr(owner, name)]
            if there:
                message += f"; {quote_list(there)} is not called in its place"
            raise registry().interface_fault(message, method, owner=owner, record=record)


def _returned(
    owner: Any, method: str, value: object, expected: str, record: Any = None
) -> PluginFault:
    """value: what was returned, or words for it."""
    owner = getattr(owner, "limited", owner)
    what = value if isinstance(value, str) else describe(value)
    message = f"{method}() of {name_of(owner, record)} returned {what}; expected {expected}"
    return registry().interface_fault(message, method, owner=owner, record=record)


def _returned_by_record(
    definition: ModelDef | DatasetDef, method: str, value: object, expected: str
) -> PluginFault:
    kind = "model" if isinstance(definition, ModelDef) else "dataset"
    message = f"{method}() of {kind} `{definition.name}` returned {describe(value)}"
    return registry().interface_fault(f"{message}; expected {expected}", method, record=definition)


def name_of(owner: object, record: Any = None) -> str:
    """A data set by its registered name, anything else by its class."""
    if isinstance(record, DatasetDef):
        return f"data set `{record.name}`"
    return "the data set" if owner is None else f"`{type(owner).__name__}`"
