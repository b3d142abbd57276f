"""What `infer --input` names for a model with `model.inputs`: a folder for each input, or .npz
files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qatspec.cli.inputs import Input, Warn, load_array, unreadable, unusable, warn_of
from qatspec.cli.reader import model_input
from qatspec.diag import DiagnosticError
from qatspec.diag.words import quote_list
from qatspec.files import open_file
from qatspec.spec import GivenInput, InputSpec, TensorSpec

if TYPE_CHECKING:
    import numpy as np

_LAYOUT = "a folder with a folder for each input (files of one name belong together), or .npz files"


def named_inputs(source: Path, inputs: Mapping[str, GivenInput], warn: Warn) -> Iterator[Input]:
    """The examples that `source` holds: a folder with a folder for each of `inputs`, whose files of
    one name are one example, or an .npz file with an array for each, or a folder of those. Files
    without a partner in every folder are warned of.

    In a folder for a picture there are pictures, which are read as the input says, or .npy arrays
    of the input's shape; in one for another input .npy arrays. Examples that cannot be read are
    warned of and left out, unless none can be. Raises DiagnosticError QS923."""
    examples = _examples(source, inputs, warn)
    yielded = 0
    for number, (named, files) in enumerate(examples):
        try:
            one = _read(named, files, inputs)
        except DiagnosticError as error:
            if number == len(examples) - 1 and not yielded:
                raise
            warn_of(error, warn)
            continue
        yielded += 1
        yield one


def recorded_inputs(record: Mapping[str, Any]) -> dict[str, GivenInput]:
    """The inputs that a file records (qatspec.spec.preprocessing), by name."""
    recorded: dict[str, GivenInput] = {}
    for name, form in record.items():
        if "shape" in form:
            recorded[name] = TensorSpec(shape=tuple(form["shape"]), dtype=form["dtype"])
            continue
        height, width = form["size"]
        recorded[name] = InputSpec(
            size=(height, width),
            channels=len(form["mean"]),
            format=form["format"],
            mean=tuple(form["mean"]),
            std=tuple(form["std"]),
            resize=form.get("resize"),
        )
    return recorded


def _examples(
    source: Path, inputs: Mapping[str, GivenInput], warn: Warn
) -> list[tuple[Path, Mapping[str, Path] | Path]]:
    """(what an example is told by, its .npz file or its file for each input)."""
    if source.suffix == ".npz":
        return [(source, source)]
    if source.exists() and not source.is_dir():
        why = f"it is one file, and the model takes {quote_list(list(inputs))}"
        raise unusable(source, why, f"give {_LAYOUT}")
    if not source.is_dir():
        raise unusable(source, "there is no such folder", "correct the path")
    files = sorted(p for p in source.iterdir() if p.suffix == ".npz")
    if files:
        return [(path, path) for path in files]
    missing = [name for name in inputs if not (source / name).is_dir()]
    if missing:
        raise unusable(source, f"it has no folder {quote_list(missing)}", f"give {_LAYOUT}")
    folders = {name: _by_stem(source / name, given) for name, given in inputs.items()}
    first, *others = folders.values()
    for name, stems in folders.items():
        for stem, path in stems.items():
            without = [other for other in folders if stem not in folders[other]]
            if without:
                why = f"`{source.name}/{without[0]}` has no file of its name"
                warn_of(unusable(path, f"{why}, and `{name}` alone is no example", "add it"), warn)
    common = [stem for stem in first if all(stem in other for other in others)]
    if not common:
        raise unusable(
            source,
            f"no name of a file is in each of the folders {quote_list(list(inputs))}",
            "give the files that belong together one name",
        )
    return [
        (first[stem], {name: files_of[stem] for name, files_of in folders.items()})
        for stem in common
    ]


def _by_stem(folder: Path, given: GivenInput) -> dict[str, Path]:
    from qatspec.picture import suffixes

    known = {".npy", *(suffixes() if isinstance(given, InputSpec) else ())}
    return {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in known}


def _read(named: Path, files: Mapping[str, Path] | Path, inputs: Mapping[str, GivenInput]) -> Input:
    if isinstance(files, Path):
        return Input(path=named, arrays=_arrays_of(files, inputs))
    arrays: list[np.ndarray] = []
    meta: Mapping[str, Any] = {}
    picture: Path | None = None
    for name, given in inputs.items():
        path = files[name]
        if isinstance(given, InputSpec) and path.suffix != ".npy":
            array, placed = model_input(given).read(path)
            meta, picture = (placed, path) if picture is None else (meta, picture)
        else:
            array = _fitting(path, name, load_array(path, batch=False), given)
        arrays.append(array)
    return Input(path=named, arrays=tuple(arrays), meta=meta, picture=picture)


def _arrays_of(path: Path, inputs: Mapping[str, GivenInput]) -> tuple[np.ndarray, ...]:
    import numpy as np

    try:
        with open_file(path) as file, np.load(file, allow_pickle=False) as archive:
            held = {name: archive[name] for name in archive.files}
    except OSError as error:
        raise unreadable(path, error) from error
    except Exception as error:  # numpy and zipfile raise their own
        raise unusable(path, f"it is no .npz file: {error}", f"give {_LAYOUT}") from error
    if missing := [name for name in inputs if name not in held]:
        why = f"it lacks {quote_list(missing)}; it holds {quote_list(list(held)) or 'nothing'}"
        raise unusable(path, why, "write it with numpy.savez(path, NAME=array, ...)")
    return tuple(_fitting(path, name, held[name], given) for name, given in inputs.items())


def _fitting(path: Path, name: str, array: np.ndarray, given: GivenInput) -> np.ndarray:
    """`array` in the dtype of the input. Raises DiagnosticError QS923 where it is another one."""
    dtype = given.dtype if isinstance(given, TensorSpec) else "float32"
    kinds = "iu" if dtype.startswith("int") else "fiu"
    if array.shape != given.shape or array.dtype.kind not in kinds:
        raise unusable(
            path,
            f"`{name}` is {array.dtype} {array.shape}",
            f"give {dtype} {given.shape}, without a batch",
        )
    return array.astype(dtype)
