"""`qatspec plan`: the steps of a spec and their status in the work directory."""

from __future__ import annotations

from pathlib import Path

import click

from qatspec.cli import options
from qatspec.cli.output import echo, echo_json, settings, terminal_width
from qatspec.plan import (
    device_kind,
    plan_data,
    plan_table,
    resolve,
    status,
    with_recorded_sizes,
)


@click.command(name="plan", short_help="Show the steps of a spec: run, cached or changed.")
@options.spec
@options.overrides
@options.workdir
@options.nproc
@options.nnodes
@options.threads
@options.device
@options.allow_code
def command(
    spec: Path,
    overrides: tuple[str, ...],
    workdir: Path | None,
    nproc: int,
    nnodes: int,
    threads: int | None,
    device: str,
    allow_code: bool,
) -> None:
    """Print the steps of SPEC in order, with the status of each in the work directory: `cached`
    (its result is reused), `changed` (it runs again, because of the lines that are named), or `run`
    (it has no result yet). --format json prints the whole plan.

    Results depend on the type of device, on the number of processes and on the threads of each:
    pass the same --device, --nproc, --nnodes and --threads as to `run`. Without importing torch,
    `auto` means cuda if the installed torch is built for CUDA and the machine has the device file
    of a GPU.
    """
    loaded = options.load(spec, overrides, allow_code)
    options.check_data(loaded)
    workdir = workdir or options.default_workdir(loaded)
    loaded = with_recorded_sizes(loaded, workdir)
    plan = resolve(loaded, device=device_kind(device), nproc=nproc * nnodes, threads=threads)
    statuses = status(plan, workdir)
    if settings().format == "json":
        echo_json(plan_data(plan, statuses))
    else:
        echo(plan_table(plan, statuses, terminal_width()))
