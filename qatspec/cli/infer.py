"""`qatspec infer`: run any model file on pictures or arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qatspec.cli import options
from qatspec.cli.held import Held, stale_option
from qatspec.cli.names import FORMAT, PREDICTIONS, OutputNames
from qatspec.cli.output import echo
from qatspec.diag import Diagnostic, DiagnosticError, Span
from qatspec.files import open_file, sweep, why_unreadable

if TYPE_CHECKING:
    import numpy as np

    from qatspec.onnx.host import HostRunner
    from qatspec.spec import Spec
    from qatspec.stages.models import Integers
    from qatspec.types import Sample


@click.command(name="infer", short_help="Run a checkpoint, Program, ONNX or bin on inputs.")
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--model", type=click.Path(path_type=Path), help="Model file, where TARGET is a spec."
)
@click.option(
    "--input",
    "source",
    required=True,
    type=click.Path(path_type=Path),
    help="A picture, a folder of pictures, or an .npy array (N, C, H, W).",
)
@click.option(
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write into.",
)
@click.option(
    "--score", type=float, default=0.3, show_default=True, help="Draw boxes from this score on."
)
@options.overrides
@options.workdir
@stale_option
@options.device
@options.allow_code
def command(
    target: Path,
    model: Path | None,
    source: Path,
    output: Path,
    score: float,
    overrides: tuple[str, ...],
    workdir: Path | None,
    stale: bool,
    device: str,
    allow_code: bool,
) -> None:
    """Run a model on inputs. TARGET is a spec (then --model is any checkpoint, .program,
    -converted.onnx or .bin), or a .program, -converted.onnx or .bin that runs by itself.

    With a spec: predictions.json and a drawing of each picture: boxes, a segmentation laid over it
    (with NAME-mask.png, the labels themselves), or the five best classes. Integer models also leave
    NAME.npz: the integers of every input and output port. Without a spec: those alone.
    """
    from qatspec.stages import models
    from qatspec.stages.integers import produce_with

    if target.suffix not in (".yaml", ".yml"):
        _run_alone(models.open_integers(target), source, output)
        return
    if model is None:
        raise click.UsageError("with a spec, --model names the file to run")
    spec = options.load(target, overrides, allow_code)
    with spec.document.located():
        held = Held(spec, workdir, stale=stale)
        held.hold(model)
        context = options.context(spec, workdir, device=device, locate=held.folder)
        integers = None if model.name.endswith(".pth.tar") else models.open_integers(model)
        host = models.host_of(context, model, integers) if integers is not None else None
        produce = (
            models.open_model(context, model)
            if integers is None
            else produce_with(integers, integers.tree, host)
        )
        _predict(context, produce, integers, host, source, output, score, model.name)


def _run_alone(ported: Integers, source: Path, output: Path) -> None:
    """Integers in and out of a file that carries everything but how pictures become inputs."""
    import numpy as np

    if source.suffix != ".npy":
        raise _unusable(
            source,
            "without a spec, nothing says how pictures are scaled and normalised",
            "pass the spec first and this file with --model, or give an .npy array",
        )
    array = _load_array(source)
    whole = np.issubdtype(array.dtype, np.integer)
    port = (ported.inputs if whole else ported.real_inputs)[0]
    if array.shape[1:] != port.shape:
        wanted = f"(N, {', '.join(map(str, port.shape))})"
        raise _unusable(source, f"its shape is {array.shape}", f"the model takes {wanted}")
    ints = [array] if whole else ported.quantize(array)
    target = output / f"{source.stem}.npz"
    told = f"{target} (replaced)" if target.exists() else str(target)
    _write_integers(ported, ints, target)
    echo(told)


def _predict(
    context: Any,
    produce: Any,
    integers: Integers | None,
    host: HostRunner | None,
    source: Path,
    output: Path,
    score: float,
    model: str,
) -> None:
    import torch

    from qatspec.cli.present import present
    from qatspec.stages.integers import quantized
    from qatspec.train.files import write_json

    names = OutputNames(output)
    dataset = context.dataset("val")
    decode = context.decoder()
    target = output / PREDICTIONS
    entries: list[dict[str, Any]] = []
    content = {"model": model, "classes": list(dataset.classes), "predictions": entries}
    try:
        for path, sample in _samples(source, dataset, context.spec):
            name = names.of(path)
            images = torch.from_numpy(sample.image[None])
            if integers is not None:
                ints = quantized(integers, host, images.numpy())
                _write_integers(integers, ints, output / f"{name}.npz")
            with torch.no_grad():
                found = decode(produce(images.to(context.device)))[0]
            prediction = {key: value.cpu().numpy() for key, value in found.items()}
            picture = path if sample.meta else None  # arrays have none
            shown = present(prediction, dataset, sample.meta, picture, output / name, score)
            entries.append({"input": path.name, "output": name, **shown})
    finally:
        if entries:
            write_json(target, {"format": FORMAT, **content})
            sweep(output)
    echo(f"{target}: {len(entries)} inputs")


def _samples(source: Path, dataset: Any, spec: Spec) -> Iterator[tuple[Path, Sample]]:
    """Each input as the model takes it; arrays have no picture and so an empty meta. Of a folder,
    pictures that cannot be read are warned of and left out, unless none can."""
    from qatspec.types import Sample

    if source.suffix == ".npy":
        array = _load_array(source)
        wanted = (spec.input.channels, *spec.input.size)
        if array.shape[1:] != wanted or array.dtype.kind != "f":
            raise _unusable(
                source,
                f"it is {array.dtype} {array.shape}",
                f"give normalised float32 (N, {', '.join(map(str, wanted))})",
            )
        for number, image in enumerate(array.astype("float32")):
            yield source.with_name(f"{source.stem}-{number:04d}.npy"), Sample(image, {})
        return
    if not hasattr(dataset, "read"):
        raise _unusable(source, "the spec's data set cannot read single pictures", "give an .npy")
    paths, broken = _pictures(source), 0
    for path in paths:
        try:
            sample = dataset.read(path)
        except DiagnosticError as error:
            broken += 1
            if broken == len(paths):
                raise
            for diagnostic in error.diagnostics:
                options.warn(spec, replace(diagnostic, severity="warning"))
            continue
        yield path, sample


def _pictures(source: Path) -> list[Path]:
    if source.is_dir():
        from qatspec.picture import suffixes

        known = suffixes()
        found = sorted(p for p in source.iterdir() if p.suffix.lower() in known)
        if not found:
            raise _unusable(source, "there is no picture in it", "give a folder of pictures")
        return found
    if not source.exists():
        raise _unusable(source, "there is no such file", "check the path")
    return [source]


def _load_array(path: Path) -> np.ndarray:
    import numpy as np

    try:
        with open_file(path) as file:
            array: np.ndarray = np.load(file, allow_pickle=False)
    except OSError as error:
        raise _unusable(path, why_unreadable(error), "check the path") from error
    except (ValueError, EOFError) as error:
        raise _unusable(path, f"it is no array: {error}", "write it with numpy.save") from error
    if array.ndim < 2:
        raise _unusable(path, f"its shape is {array.shape}", "put the batch first")
    return array


def _write_integers(ported: Integers, ints: list[np.ndarray], path: Path) -> Path:
    """Integers of every port, by name."""
    import io

    import numpy as np

    from qatspec.train.files import write_bytes

    ports = (*ported.inputs, *ported.outputs)
    arrays: dict[str, Any] = {
        p.name: a for p, a in zip(ports, [*ints, *ported.run(*ints)], strict=True)
    }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_bytes(path, buffer.getvalue())
    return path


def _unusable(path: Path, why: str, help_: str) -> DiagnosticError:
    return DiagnosticError(
        Diagnostic(
            code="QS923",
            message=f"`{path.name}` cannot be used: {why}",
            help=help_,
            span=Span(file=str(path)),
        )
    )
