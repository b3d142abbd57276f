"""`qatspec compare`: compare each layer in float, with fake-quantization, and in integers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qatspec.cli import options
from qatspec.cli.compare_text import ComparisonText, mean
from qatspec.cli.held import Held, stale_option
from qatspec.cli.output import echo_json, is_text, show, tables
from qatspec.diag import Diagnostic, DiagnosticError
from qatspec.diag.codes import QS730, QS731

if TYPE_CHECKING:
    from torch import Tensor

    from qatspec.analyze import Comparison, LayerError, OnnxError, OutputError, Steps
    from qatspec.spec import Spec
    from qatspec.stages import Context

FORMAT = 1


@click.command(name="compare", short_help="Compare float, fake-quant and integers layer by layer.")
@options.spec
@click.option("--stage", help="Stage of the checkpoint. Default: the last stage that quantizes.")
@options.images("Number of images of data.val, from the first on.")
@click.option(
    "--threshold",
    type=float,
    metavar="DB",
    help="Exit with code 1 if the SQNR of a layer or output in integers is below this value.",
)
@click.option("--onnx", is_flag=True, help="Compare the QAT ONNX of the work directory, too.")
@options.overrides
@options.workdir
@options.candidate
@stale_option
@options.allow_code
def command(
    spec: Path,
    stage: str | None,
    images: int,
    threshold: float | None,
    onnx: bool,
    overrides: tuple[str, ...],
    workdir: Path | None,
    candidate: str | None,
    stale: bool,
    allow_code: bool,
) -> None:
    """Run one checkpoint of SPEC on the same images in float, with fake-quantization and in
    integers, and print the differences: noise per layer; distance in LSB between fake-quantization
    and integers, end to end and given equal inputs; the first layer where the error grows; the
    worst layers, with the line of the spec whose rule applies; and the outputs.

    "Float" means the same weights without quantization. --format json prints everything as data.
    """
    from qatspec.analyze import compare_layers, compare_qat_onnx
    from qatspec.stages.models import open_prepared, result_file

    loaded = options.load(spec, overrides, allow_code)
    loaded, workdir = options.of_candidate(loaded, workdir, candidate)
    chosen = options.quantized_stage(loaded, stage)
    with loaded.document.located():
        held = Held(loaded, workdir, stale=stale)
        context = options.context(loaded, workdir, device="cpu", limit=images, locate=held.folder)
        shown = _candidate(loaded, context.workdir, candidate)
        loaded = context.spec
        prepared, _ = open_prepared(context, result_file(context, chosen))
        comparison = compare_layers(prepared, _batches(context))
        files = {}
        if onnx:
            path = context.results("convert") / f"{loaded.name}-qat.onnx"
            held.hold(path)
            files = compare_qat_onnx(prepared, path, _batches(context))
    problems = _problems(comparison, threshold)
    if is_text():
        ComparisonText(tables(), loaded, comparison, shown).print(chosen, files)
        if any(d.severity == "error" for d in problems):
            raise DiagnosticError(loaded.document.resolve(problems), loaded.document.texts)
        show(loaded.document.resolve(problems), loaded.document.texts)
        return
    data = _data(loaded, chosen, comparison, files, threshold, problems)
    echo_json({**data, "candidate": shown})
    if any(d.severity == "error" for d in problems):
        raise click.exceptions.Exit(1)


def _candidate(spec: Spec, workdir: Path, asked: str | None) -> str | None:
    """The name of the candidate that is compared; None where the spec has none."""
    from qatspec.plan import chosen_name

    return asked if asked or spec.tried is None else chosen_name(workdir, spec.tried)


def _batches(context: Context) -> Iterator[Sequence[Tensor]]:
    return (batch.inputs for batch in context.loader("val").ordered())


def _problems(comparison: Comparison, threshold: float | None) -> list[Diagnostic]:
    """Layers whose integers depart from the fake-quant model, and those below the threshold."""
    problems = []
    departing = [layer for layer in comparison.layers if layer.departs]
    if departing:
        layer = departing[0]
        problems.append(
            QS730.diagnostic(
                f"`{layer.node}`: given equal inputs, integers and fake-quant lie "
                f"{layer.local.largest} steps apart where {layer.bound} may be"
                + _more(len(departing) - 1),
                severity="warning" if threshold is None else "error",
                help="report it with the spec and the checkpoint",
                at=layer.rule or None,
            )
        )
    if threshold is None:
        return problems
    below = [layer for layer in comparison.worst if layer.integer.db < threshold]
    places = [(f"layer `{e.node}`", e.integer.db, e.rule) for e in below]
    outputs = sorted(comparison.outputs, key=lambda output: output.integer.db)
    places += [
        (f"output `{e.name}`", e.integer.db, "") for e in outputs if e.integer.db < threshold
    ]
    if places:
        name, measured, rule = min(places, key=lambda measurement: measurement[1])
        problems.append(
            QS731.diagnostic(
                f"{name} has {measured:.1f} dB, the threshold is {threshold:g} dB"
                + _more(len(places) - 1),
                help="run `qatspec sensitivity` to find the modules that need more bits",
                at=rule or None,
            )
        )
    return problems


def _more(count: int) -> str:
    return f", and so do {count} more" if count > 0 else ""


def _data(
    spec: Spec,
    stage: str,
    comparison: Comparison,
    files: Mapping[str, list[OnnxError]],
    threshold: float | None,
    problems: Sequence[Diagnostic],
) -> dict[str, Any]:
    """SQNR in dB, null where nothing differs; shares of 0, 1, 2 and more steps."""
    return {
        "format": FORMAT,
        "spec": spec.name,
        "stage": stage,
        "march": spec.march,
        "images": comparison.images,
        "layers": [
            {
                "node": e.node,
                "module": e.module,
                "dtype": e.dtype,
                "source": e.source,
                "rule": e.rule,
                "rule_at": options.spec_location(spec, e.rule) if e.rule else None,
                "reads": list(e.reads),
                "sqnr": _sqnr(e),
                "lost_db": e.lost,
                "bound": e.bound,
                "local": _histogram(e.local),
                "end_to_end": _histogram(e.end_to_end),
            }
            for e in comparison.layers
        ],
        "outputs": [
            {
                "name": e.name,
                "dtype": e.dtype,
                "sqnr": _sqnr(e),
                "largest": e.largest,
                "mean": mean(e),
            }
            for e in comparison.outputs
        ],
        "error_grows_first": comparison.growth.node if comparison.growth else None,
        "departs_first": comparison.departure.node if comparison.departure else None,
        "worst": [e.node for e in comparison.worst],
        "onnx": {
            name: [{"node": e.node, "end_to_end": _histogram(e.steps)} for e in errors]
            for name, errors in files.items()
        },
        "threshold_db": threshold,
        "problems": [{"code": d.code, "message": d.message} for d in problems],
    }


def _sqnr(error: LayerError | OutputError) -> dict[str, float | None]:
    noises = {
        "fake_quant": error.fake_quant,
        "integer": error.integer,
        "integer_to_fake_quant": error.between,
    }
    return {name: None if n.db == math.inf else n.db for name, n in noises.items()}


def _histogram(steps: Steps) -> dict[str, Any]:
    return {**dict(zip(("0", "1", "2", ">2"), steps.shares, strict=True)), "max": steps.largest}
