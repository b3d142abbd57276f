"""`qatspec infer`: run any model file on pictures or arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qatspec.cli import options
from qatspec.cli.held import Held, stale_option
from qatspec.cli.inputs import Input, array_inputs, inputs, load_array, unusable
from qatspec.cli.named_inputs import named_inputs, recorded_inputs
from qatspec.cli.names import FORMAT, PREDICTIONS, OutputNames, demand_own_integers
from qatspec.cli.output import echo, show
from qatspec.files import sweep
from qatspec.spec import INPUTS, InputSpec, TensorSpec

if TYPE_CHECKING:
    import numpy as np

    from qatspec.export.host import HostRunner
    from qatspec.spec import GivenInput
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
    help="A picture, a video, a folder of both (and folders in it), or an .npy array (N, C, H, W). "
    "For several inputs (`model.inputs`): a folder with a folder for each, of pictures or .npy "
    "arrays of no batch, where files of one name belong together; an .npz file with an array for "
    "each; or a folder of such files.",
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

    Pictures are read by the data set of data.val where it has `read`, else as `model.input` or
    `model.inputs` says; without a spec, as the file itself records. Frames of a video are
    NAME-000000 and so on.
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
            else produce_with(integers, integers.tree, host, tuple(context.inputs))
        )
        network = Network(context, produce, integers, host)
        _predict(network, _inputs(network, source, output, every), output, score, model.name)


def _run_alone(ported: Integers, source: Path, output: Path, every: int) -> None:
    """Integers in and out of a file, without predictions."""
    if source.suffix == ".npy":
        _run_array(ported, source, output)
        return
    recorded = ported.image
    if recorded is not None and INPUTS in recorded:
        _run_named(ported, recorded[INPUTS], source, output)
        return
    if recorded is None:
        raise unusable(
            source,
            "without a spec, nothing says how pictures are scaled and normalised",
            "pass the spec first and this file with --model, or give an .npy array",
        )
    from qatspec.picture import ModelInput
    from qatspec.types import Sample

    fed, names = ModelInput.of(recorded), OutputNames(output)
    says_fit = not {"resize", "crop"}.isdisjoint(recorded)

    def read(path: Path) -> Sample:
        image, meta = fed.read(path)
        height, width = fed.size
        if not says_fit and (meta["height"], meta["width"]) != fed.size:
            raise unusable(
                path,
                f"it is {meta['width']} x {meta['height']}, the model takes {width} x {height}, "
                "and the file does not record how other pictures are fitted: neither "
                "`model.input.resize` nor the data set of data.val said it",
                "pass the spec first and this file with --model, give pictures of that size, or "
                "write `resize: letterbox` or `stretch` into `model.input` and convert again",
            )
        return Sample(image, {}, meta)

    for one in inputs(
        source, read, lambda diagnostic: show([diagnostic]), output=output, every=every
    ):
        target = output / f"{names.name_for(one.path)}.npz"
        _write_integers(ported, ported.quantize(one.arrays[0][None]), target)
        echo(str(target))


def _run_named(ported: Integers, recorded: Mapping[str, Any], source: Path, output: Path) -> None:
    """Integers in and out of a file that records the forms of its inputs."""
    from qatspec.graph.arguments import port_name

    ports = {port.name: port for port in ported.real_inputs}
    of_ports = {port_name(name): name for name in recorded}
    if missing := [name for name in ports if name not in of_ports]:
        raise unusable(
            source,
            f"`{missing[0]}` is computed on the host, which the file does not hold",
            "pass the spec first and this file with --model",
        )
    given = recorded_inputs({of_ports[port]: recorded[of_ports[port]] for port in ports})
    names = OutputNames(output)
    for one in named_inputs(source, given, lambda diagnostic: show([diagnostic])):
        target = output / f"{names.name_for(one.path)}.npz"
        _write_integers(ported, ported.quantize(*(x[None] for x in one.arrays)), target)
        echo(str(target))


def _run_array(ported: Integers, source: Path, output: Path) -> None:
    import numpy as np

    array = load_array(source)
    is_integer = np.issubdtype(array.dtype, np.integer)
    port = (ported.inputs if is_integer else ported.real_inputs)[0]
    if array.shape[1:] != port.shape:
        wanted = f"(N, {', '.join(map(str, port.shape))})"
        raise unusable(source, f"its shape is {array.shape}", f"the model takes {wanted}")
    ints = [array] if is_integer else ported.quantize(array)
    target = output / f"{source.stem}.npz"
    demand_own_integers(target, [p.name for p in (*ported.inputs, *ported.outputs)])
    shown_path = f"{target} (replaced)" if target.exists() else str(target)
    _write_integers(ported, ints, target)
    echo(shown_path)


def _inputs(network: Network, source: Path, output: Path, every: int) -> Iterator[Input]:
    """Yield each input that --input names, as the model takes it."""
    from qatspec.cli.reader import Reader

    context = network.context
    warn = partial(options.warn, context.spec)
    if len(context.inputs) == 1 and source.suffix == ".npy":
        yield from array_inputs(source, _array(source, next(iter(context.inputs.values()))))
    elif len(context.inputs) == 1 and context.spec.input is not None and not _is_named(source):
        reader = Reader(context.spec, context.dataset("val"))
        yield from inputs(source, reader.read, warn, output=output, every=every)
    else:
        yield from named_inputs(source, context.inputs, warn)


def _is_named(source: Path) -> bool:
    """Return whether the only input, a picture, is given by its name."""
    return source.suffix == ".npz" or (source.is_dir() and any(source.glob("*.npz")))


def _array(source: Path, wanted: GivenInput) -> np.ndarray:
    """An array of examples of the only input. Raises DiagnosticError QS923."""
    array, dtype = load_array(source), "float32"
    if isinstance(wanted, TensorSpec):
        dtype = wanted.dtype
    kinds = "iu" if dtype.startswith("int") else "f"
    if array.shape[1:] != wanted.shape or array.dtype.kind not in kinds:
        shape = ", ".join(map(str, wanted.shape))
        numbers = f"normalised {dtype}" if isinstance(wanted, InputSpec) else dtype
        raise unusable(source, f"it is {array.dtype} {array.shape}", f"give {numbers} (N, {shape})")
    return array.astype(dtype)


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
            arrays = [array[None] for array in one.arrays]
            if network.integers is not None:
                names_of = tuple(context.inputs)
                ints = quantized(network.integers, network.host, arrays, names_of)
                _write_integers(network.integers, ints, output / f"{name}.npz")
            prediction = _prediction(network, decode, arrays)
            shown = present(prediction, reader, one.meta, one.picture, output / name, score)
            entries.append({"input": one.told or one.path.name, "output": name, **shown})
    finally:
        if entries:
            write_json(target, {"format": FORMAT, **content})
            sweep(output)
    echo(f"{target}: {len(entries)} inputs")


def _prediction(
    network: Network, decode: Any, arrays: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """What the model makes of the inputs of one example, with a batch. Raises PluginFault."""
    import torch

    from qatspec.process import interrupt
    from qatspec.registry import registry
    from qatspec.train.protocol import predictions_of

    interrupt.check()
    owner = getattr(decode, "__self__", decode)
    with torch.no_grad():
        with registry().attribute_errors_of(network.produce, "forward"):
            tensors = (torch.from_numpy(x).to(network.context.device) for x in arrays)
            outputs = network.produce(*tensors)
        with registry().attribute_errors_of(owner, "predict"):
            decoded = decode(outputs)
    return predictions_of(owner, decoded, 1)[0]


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
