"""`qatspec eval`: the metrics of any stage's result on data.val."""

from __future__ import annotations

from pathlib import Path

import click

from qatspec.cli import options
from qatspec.cli.console import CleanConsole
from qatspec.cli.held import Held, stale_option
from qatspec.cli.live import Live
from qatspec.cli.output import echo_json, people, settings


@click.command(name="eval", short_help="Evaluate a stage's result on data.val.")
@options.spec
@click.option(
    "--stage",
    "result",
    type=click.Choice(["float", "calibration", "qat", "integer", "bin"]),
    default="qat",
    show_default=True,
    help="Evaluate the best checkpoint of a stage, the integer Program, or the compiled binary.",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="Model file to evaluate. Default: the one in the work directory.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help="Number of images to evaluate, from the first on. Default: all.",
)
@options.overrides
@options.workdir
@options.candidate
@stale_option
@options.device
@options.allow_code
def command(
    spec: Path,
    result: str,
    model: Path | None,
    limit: int | None,
    overrides: tuple[str, ...],
    workdir: Path | None,
    candidate: str | None,
    stale: bool,
    device: str,
    allow_code: bool,
) -> None:
    """Print every metric of the data set of SPEC for the result of one stage.

    If the result was made with settings that differ from SPEC, an error lists the differences.
    """
    from qatspec.stages.models import open_model, result_file
    from qatspec.stages.training import validation_progress
    from qatspec.train.evaluate import evaluate
    from qatspec.types import StageEvent

    loaded = options.load(spec, overrides, allow_code)
    loaded, workdir = options.of_candidate(loaded, workdir, candidate)
    moving = CleanConsole(stderr=True)  # stdout has the metrics alone, however long they take
    with loaded.document.located(), Live(moving, options.Warnings(loaded)) as live:
        held = Held(loaded, workdir, stale=stale)
        context = options.context(
            loaded,
            workdir,
            locate=held.folder,
            device=device,
            limit=limit,
            report=lambda kind, data: live.show(StageEvent(kind=kind, step=result, data=data)),
        )
        path = model or result_file(context, result)
        held.hold(path)
        metrics = evaluate(
            open_model(context, path),
            context.decoder(),
            context.loader("val"),
            device=context.device,
            progress=validation_progress(context),
        )
    if settings().format == "json":
        echo_json({"format_version": 1, "stage": result, "file": str(path), "metrics": metrics})
        return
    console = CleanConsole(file=people())
    console.print(f"{path}", highlight=False, soft_wrap=True)
    for name, value in metrics.items():
        console.print(f"  {name:<12}{value:7.2f}", highlight=False)
