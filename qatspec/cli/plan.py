"""`qatspec plan`: the steps of a spec, and what each would do in the work directory."""

from __future__ import annotations

from pathlib import Path

import click

from qatspec.cli import options
from qatspec.cli.output import echo, echo_json, settings
from qatspec.plan import device_kind, plan_data, plan_table, resolve, status


@click.command(name="plan", short_help="Show the steps of a spec: run, cached or changed.")
@options.spec
@options.overrides
@options.workdir
@options.nproc
@options.device
@options.allow_code
def command(
    spec: Path,
    overrides: tuple[str, ...],
    workdir: Path | None,
    nproc: int,
    device: str,
    allow_code: bool,
) -> None:
    """Show the steps of SPEC in order: `cached` stands as it is, `changed` runs anew because of
    the lines named, `run` has no result yet. With --format json: the whole plan.

    Bytes depend on the kind of device and the number of processes: give the --device and --nproc
    that `run` gets. `auto` is answered without torch: cuda where the installed torch is built for
    it and the machine has a GPU's device file.
    """
    loaded = options.load(spec, overrides, allow_code)
    options.check_data(loaded)
    plan = resolve(loaded, device=device_kind(device), nproc=nproc)
    statuses = status(plan, workdir or options.default_workdir(loaded))
    if settings().format == "json":
        echo_json(plan_data(plan, statuses))
    else:
        echo(plan_table(plan, statuses))
