"""`qatspec convert`: a QAT checkpoint to ONNX, integer Program and compiled binary."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from qatspec.cli import options
from qatspec.cli.held import Held, stale_option
from qatspec.cli.output import echo
from qatspec.diag.codes import QS920
from qatspec.plan.checkpoints import read_header
from qatspec.registry import registry
from qatspec.spec import Spec


@click.command(name="convert", short_help="Convert and compile a QAT checkpoint.")
@options.spec
@click.option(
    "--qat-model-path",
    "--qat_model_path",
    "checkpoint",
    required=True,
    type=click.Path(path_type=Path),
    help="Checkpoint of the qat or calibration stage.",
)
@click.option(
    "--output-dir",
    "--output_dir",
    "output_dir",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Output folder.",
)
@click.option("--march", help="Chip architecture. Default: the spec's `march`.")
@options.overrides
@options.workdir
@stale_option
@options.allow_code
def command(
    spec: Path,
    checkpoint: Path,
    output_dir: Path,
    march: str | None,
    overrides: tuple[str, ...],
    workdir: Path | None,
    stale: bool,
    allow_code: bool,
) -> None:
    """Write NAME-qat.onnx, NAME-converted.onnx, NAME.program, the scales of its outputs
    (NAME-outputs.json and .h), NAME.bin and the performance report into the output folder.

    Converted and compiled files are compared with the Program on real images before the command
    succeeds.
    """
    from qatspec.stages.compile import compile_to_files
    from qatspec.stages.convert import convert
    from qatspec.stages.models import open_prepared

    if march is not None:  # before the spec is read: compile's options are the march's own
        overrides = (*overrides, f"march={march}")
    loaded = options.load(spec, overrides, allow_code)
    with loaded.document.located():
        _hold(loaded, workdir, checkpoint, stale)
        context = options.context(loaded, workdir, folder=output_dir)
        prepared, trained_for = open_prepared(context, checkpoint)
        if trained_for != loaded.march:
            options.warn(
                loaded,
                QS920.warning(
                    f"the checkpoint was trained for march {trained_for} and is converted "
                    f"for {loaded.march}: scales stay, arithmetic changes, accuracy may differ",
                    help=f"train with `march: {loaded.march}`, or evaluate the result: "
                    "qatspec infer, qatspec eval",
                ),
            )
        program, converted, exact = convert(context, prepared)
        compiled, exact_binary = compile_to_files(context, program, loaded.march, output_dir)
    for path in (*converted, *compiled):
        exactness = {**exact, **exact_binary}.get(path.name)
        note = ""
        if exactness is not None:
            distance = "bit-exact" if exactness.bit_exact else "not bit-exact"
            note = f"  ({distance}: {exactness.compared})"
        echo(f"{path}{note}")


def _hold(spec: Spec, workdir: Path | None, checkpoint: Path, stale: bool) -> None:
    """Hold the checkpoint against the spec, for the march that it was trained for."""
    header = read_header(checkpoint)
    march = header.march if header is not None and header.march else spec.march
    known = march in registry().names("march")
    Held(replace(spec, march=march) if known else spec, workdir, stale=stale).hold(checkpoint)
