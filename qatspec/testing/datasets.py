"""Checks of data sets."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from qatspec.diag import DiagnosticError
from qatspec.picture import ModelInput
from qatspec.spec import FROM_INPUT, INPUTS, InputSpec
from qatspec.testing.subject import Skipped, Subject, example_params
from qatspec.types import DatasetDef


def samples_in_any_order(subject: Subject, dataset: DatasetDef) -> None:
    """A sample depends on its index and generator alone; images are finite float32 (C, H, W), or a
    mapping of names to finite arrays."""
    with _opened(dataset) as data:
        indexes = list(range(min(4, len(data))))
        assert indexes, "it holds no example"
        forward = {i: _sample(data, i) for i in indexes}
        for i in reversed(indexes):
            assert _same(forward[i], _sample(data, i)), f"sample {i} depends on what came before"
        for i, sample in forward.items():
            for name, array in _inputs(sample).items():
                if not name:
                    assert array.dtype == np.float32 and array.ndim == 3, (
                        f"sample {i}: {array.dtype}"
                    )
                assert np.isfinite(array).all(), f"sample {i} is not finite"


def fingerprint_is_stable(subject: Subject, dataset: DatasetDef) -> None:
    """The same data has the same fingerprint."""
    params = example_params(dataset.params)
    with tempfile.TemporaryDirectory() as folder, _data_may_be_missing():
        first, second = (dataset.fingerprint(params, Path(folder)) for _ in range(2))
        assert isinstance(first, str) and first, "a fingerprint is a text"
        assert first == second, "the fingerprint changes though the data does not"


def takes_keys_that_the_input_has(subject: Subject, dataset: DatasetDef) -> None:
    """What a param takes over from the model's inputs is a key of a picture, or lies below
    `inputs`."""
    known = [field.name for field in fields(InputSpec) if field.name != "at"]
    for name, part in dataset.params.get("properties", {}).items():
        key = part.get(FROM_INPUT)
        of_named = key is not None and key.split("/")[0] == INPUTS
        assert key is None or key in known or of_named, (
            f"param {name}: `{key}` is not one of {known}"
        )


def recognizes_no_empty_folder(subject: Subject, dataset: DatasetDef) -> None:
    """`recognize` gives None for a folder without files."""
    if dataset.recognize is None:
        raise Skipped("it recognizes no folder")
    with tempfile.TemporaryDirectory() as folder:
        assert dataset.recognize(Path(folder)) is None, "it recognizes an empty folder"


def fits_pictures_as_it_says(subject: Subject, dataset: DatasetDef) -> None:
    """`read` takes pictures of other sizes as `fitting`, with the params' size, mean and std, says:
    compiled files, which record it, then take them in the same way."""
    if dataset.fitting is None:
        raise Skipped("it does not say how pictures are fitted")
    params = example_params(dataset.params)
    if "size" not in params:
        raise Skipped("its params have no size of the input")
    with _opened(dataset) as data, tempfile.TemporaryDirectory() as folder:
        assert hasattr(data, "read"), "it has no `read`, which `fitting` speaks of"
        said = ModelInput.of({**params, **dataset.fitting(params)})
        for width, height in ((97, 40), (40, 97), said.size[::-1]):
            pixels = np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8)
            path = Path(folder, f"{width}.png")
            Image.fromarray(pixels).save(path)
            mine, wanted = data.read(path).image, said.read(path)[0]
            assert mine.shape == wanted.shape and np.allclose(mine, wanted, rtol=0, atol=1e-4), (
                f"a picture of {width} x {height} is not read as {dict(dataset.fitting(params))}"
            )


@contextmanager
def _opened(dataset: DatasetDef) -> Iterator[Any]:
    params = example_params(dataset.params)
    with tempfile.TemporaryDirectory() as folder:
        with _data_may_be_missing():
            data = dataset.open(params, Path(folder, "cache"), Path(folder))
        yield data


@contextmanager
def _data_may_be_missing() -> Iterator[None]:
    try:
        yield
    except DiagnosticError as error:
        raise Skipped(f"its data is not here: {error.diagnostics[0].message}") from error


def _sample(data: Any, index: int) -> Any:
    return data.sample(index, np.random.default_rng([7, index]))


def _same(a: Any, b: Any) -> bool:
    pairs = ((_inputs(a), _inputs(b)), (a.target, b.target))
    return all(
        x.keys() == y.keys() and all(np.array_equal(x[k], y[k]) for k in x) for x, y in pairs
    )


def _inputs(sample: Any) -> Mapping[str, Any]:
    """The arrays of a sample by name; that of the only picture has none."""
    return sample.image if isinstance(sample.image, Mapping) else {"": sample.image}
