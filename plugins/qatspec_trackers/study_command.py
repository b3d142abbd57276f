"""`qatspec-study SPEC`: search values of a spec with Optuna."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from qatspec.api import DiagnosticError
from qatspec_trackers.ranges import parse_range
from qatspec_trackers.study import Study, conduct, demand_optuna


@click.command()
@click.argument("spec", type=click.Path(path_type=Path))
@click.option("--vary", multiple=True, required=True, help="KEY=LOW:HIGH[:log] or KEY=A,B,C.")
@click.option("--trials", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--stage", default="qat", show_default=True, help="Whose metric is maximised.")
@click.option("--set", "overrides", multiple=True, help="KEY=VALUE, in every trial.")
@click.option("--workdir", type=click.Path(path_type=Path), help="Default: runs/SPEC-study.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the sampler.")
@click.option("--allow-code", is_flag=True, help="Load the Python files that the spec names.")
def command(
    spec: Path,
    vary: tuple[str, ...],
    trials: int,
    stage: str,
    overrides: tuple[str, ...],
    workdir: Path | None,
    device: str,
    seed: int,
    allow_code: bool,
) -> None:
    """Run trials of SPEC up to a stage, with values that Optuna suggests, and print the best ones
    as options of `qatspec run`. The same command goes on with a study that was interrupted."""
    try:
        demand_optuna()
        study = Study(
            spec=spec,
            stage=stage,
            ranges=[parse_range(text) for text in vary],
            workdir=workdir or Path("runs") / f"{spec.stem}-study",
            overrides=overrides,
            device=device,
            allow_code=allow_code,
        )
        best = conduct(study, trials, seed, click.echo)
    except DiagnosticError as error:
        for one in error.diagnostics:
            where = f"{one.span.file}:{one.span.line}: " if one.span else ""
            advice = f"\n  help: {one.help}" if one.help else ""
            click.echo(f"{where}error[{one.code}]: {one.message}{advice}", err=True)
        sys.exit(1)
    sets = " ".join(f"--set {key}={value}" for key, value in best.items())
    click.echo(f"best: {sets}")


if __name__ == "__main__":
    command()
