"""`qatspec infer`: run any model file on pictures or arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qatspec.cli import options
from qatspec.cli.held import Held, stale_option
from qatspec.cli.inputs import Input, array_inputs, inputs, load_array, unusable
from qatspec.cli.names import FORMAT, PREDICTIONS, OutputNames, demand_own_integers
from qatspec.cli.output import echo, show
from qatspec.files import sweep

if TYPE_CHECKING:
    import numpy as np

    from qatspec.export.host import HostRunner
    from qatspec.stages import Context
    from qatspec.stages.models import Integers
    from qatspec.train.evaluate import Produce


@dataclass(frozen=True)
class Network:
    """A model file of a spec. integers, host: where it runs integers, and the float parts around
    them."""

    context: Context
    produce: Produce
    integers: Integers | None
    host: HostRunner | None


@click.command(name="infer", short_help="Run a checkpoint, Program, ONNX or bin on inputs.")
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--model", type=click.Path(path_type=Path), help="Model file. Required if TARGET is a spec."
)
@click.option(
    "--input",
    "source",
    required=True,
    type=click.Path(path_type=Path),
    help="A picture, a video, a folder of both, or an .npy array (N, C, H, W).",
)
@click.option(
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Output folder.",
)
@click.option(
    "--score",
    type=float,
    default=0.3,
    show_default=True,
    help="Minimum score of the boxes that are drawn.",
)
@click.option(
    "--every",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Use every Nth frame of a video.",
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
    every: int,
    overrides: tuple[str, ...],
    workdir: Path | None,
    stale: bool,
    device: str,
    allow_code: bool,
) -> None:
    """Run a model on inputs. TARGET is a spec, with any checkpoint, .program, -converted.onnx or
    .bin as --model; or it is a .program, -converted.onnx or .bin, which needs no spec.

    With a spec: predictions.json and a drawing of each picture: boxes, a segmentation laid over it
    (with NAME-mask.png, the labels themselves), or the five best classes. Integer models also leave
    NAME.npz: the integers of every input and output port. Without a spec: those alone.

    Pictures are read by the data set of data.val where it has `read`, else as `model.input` says;
    without a spec, as the file itself records. Frames of a video are NAME-000000 and so on.
    """
    from qatspec.stages import models
    from qatspec.stages.integers import produce_with

    if target.suffix not in (".yaml", ".yml"):
        _run_alone(models.open_integers(target), source, output, every)
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
        network = Network(context, produce, integers, host)
        _predict(network, _inputs(network, source, every), output, score, model.name)


def _run_alone(ported: Integers, source: Path, output: Path, every: int) -> None:
    """Integers in and out of a file, without predictions."""
    if source.suffix == ".npy":
        _run_array(ported, source, output)
        return
    recorded = ported.image
    if recorded is None:
        raise unusable(
            source,
            "without a spec, nothing says how pictures are scaled and normalised",
            "pass the spec first and this file with --model, or give an .npy array",
        )
    from qatspec.picture import ModelInput
    from qatspec.types import Sample

    fed, names = ModelInput.of(recorded), OutputNames(output)

    def read(path: Path) -> Sample:
        image, meta = fed.read(path)
        height, width = fed.size
        if "resize" not in recorded and (meta["height"], meta["width"]) != fed.size:
            raise unusable(
                path,
                f"it is not {width} x {height}, and the file does not record how other pictures "
                "are fitted (`model.input.resize`), which the data set decided",
                "pass the spec first and this file with --model, or give pictures of that size",
            )
        return Sample(image, {}, meta)

    for one in inputs(source, read, lambda found: show([found]), every=every):
        target = output / f"{names.name_for(one.path)}.npz"
        _write_integers(ported, ported.quantize(one.image[None]), target)
        echo(str(target))


def _run_array(ported: Integers, source: Path, output: Path) -> None:
    import numpy as np

    array = load_array(source)
    whole = np.issubdtype(array.dtype, np.integer)
    port = (ported.inputs if whole else ported.real_inputs)[0]
    if array.shape[1:] != port.shape:
        wanted = f"(N, {', '.join(map(str, port.shape))})"
        raise unusable(source, f"its shape is {array.shape}", f"the model takes {wanted}")
    ints = [array] if whole else ported.quantize(array)
    target = output / f"{source.stem}.npz"
    demand_own_integers(target, [p.name for p in (*ported.inputs, *ported.outputs)])
    shown_path = f"{target} (replaced)" if target.exists() else str(target)
    _write_integers(ported, ints, target)
    echo(shown_path)


def _inputs(network: Network, source: Path, every: int) -> Iterator[Input]:
    """Yield each input that --input names, as the model takes it."""
    from qatspec.cli.reader import Reader

    context = network.context
    reader = Reader(context.spec, context.dataset("val"))
    if source.suffix != ".npy":
        yield from inputs(source, reader.read, lambda d: options.warn(context.spec, d), every=every)
        return
    array, image = load_array(source), context.spec.input
    wanted = (image.channels, *image.size)
    if array.shape[1:] != wanted or array.dtype.kind != "f":
        raise unusable(
            source,
            f"it is {array.dtype} {array.shape}",
            f"give normalised float32 (N, {', '.join(map(str, wanted))})",
        )
    yield from array_inputs(source, array)


def _predict(
    network: Network, given: Iterable[Input], output: Path, score: float, model: str
) -> None:
    from qatspec.cli.present import present
    from qatspec.cli.reader import Reader
    from qatspec.stages.integers import quantized
    from qatspec.train.files import write_json

    names, context = OutputNames(output), network.context
    reader = Reader(context.spec, context.dataset("val"))
    decode = context.decoder()
    target = output / PREDICTIONS
    entries: list[dict[str, Any]] = []
    content = {"model": model, "classes": list(reader.classes), "predictions": entries}
    try:
        for one in given:
            name = names.name_for(one.path)
            images = one.image[None]
            if network.integers is not None:
                ints = quantized(network.integers, network.host, images)
                _write_integers(network.integers, ints, output / f"{name}.npz")
            prediction = _prediction(network, decode, images)
            shown = present(prediction, reader, one.meta, one.picture, output / name, score)
            entries.append({"input": one.path.name, "output": name, **shown})
    finally:
        if entries:
            write_json(target, {"format": FORMAT, **content})
            sweep(output)
    echo(f"{target}: {len(entries)} inputs")


def _prediction(network: Network, decode: Any, images: np.ndarray) -> dict[str, np.ndarray]:
    """What the model makes of one image (1, C, H, W). Raises PluginFault."""
    import torch

    from qatspec.process import interrupt
    from qatspec.registry import registry
    from qatspec.train.protocol import predictions_of

    interrupt.check()
    owner = getattr(decode, "__self__", decode)
    with torch.no_grad():
        with registry().attribute_errors_of(network.produce, "forward"):
            outputs = network.produce(torch.from_numpy(images).to(network.context.device))
        with registry().attribute_errors_of(owner, "predict"):
            decoded = decode(outputs)
    return predictions_of(owner, decoded, len(images))[0]


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
