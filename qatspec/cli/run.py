"""`qatspec run`: run the plan of a spec, show its progress, and print a summary."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from qatspec.cli import options
from qatspec.cli.columns import Column, print_columns
from qatspec.cli.console import CleanConsole
from qatspec.cli.live import Live, duration
from qatspec.cli.output import echo_json, people, settings
from qatspec.diag.codes import QS921
from qatspec.diag.words import file_size
from qatspec.spec import STAGES, Spec

#: tracker of plugin `trackers` -> the package that it needs, of the extra of its name
TRACKERS = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}

if TYPE_CHECKING:
    from qatspec.train.distributed import Ranks


@click.command(name="run", short_help="Run a spec: train, convert, compile, evaluate.")
@options.spec
@click.option(
    "--step",
    type=click.Choice(STAGES),
    help="Run this stage only. It starts from the stored result of the stage before it.",
)
@click.option(
    "--with-deps", is_flag=True, help="With --step: first run the stages that it depends on."
)
@options.overrides
@options.workdir
@options.nproc
@options.nnodes
@click.option(
    "--rdzv-endpoint",
    metavar="HOST:PORT",
    help="With --nnodes: where the machines meet, an address of one of them.",
)
@click.option(
    "--max-restarts",
    type=click.IntRange(min=0),
    default=0,
    help="Start all processes again, so many times at most, after one of them ended. Default: 0.",
)
@options.threads
@options.device
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Candidates of a stage that run at the same time, each in a process of its own. Default: "
    "one for each GPU, or one on the CPU.",
)
@click.option(
    "--smoke",
    is_flag=True,
    help="Run two training steps of each stage, with the changes of the spec's `smoke` section, "
    "in a directory beside the work directory. Batch norms without statistics get those of a few "
    "batches first.",
)
@click.option(
    "--profile",
    is_flag=True,
    help="Print where the time of each training went: data, forward, backward, optimizer, sync "
    "(reading losses) and eval.",
)
@click.option(
    "--track",
    type=click.Choice(tuple(TRACKERS)),
    multiple=True,
    help="Show the training in this tracker too: below logs/ in the work directory, or where "
    "MLFLOW_TRACKING_URI or WANDB_MODE say. Can be given several times.",
)
@options.allow_code
def command(
    spec: Path,
    step: str | None,
    with_deps: bool,
    overrides: tuple[str, ...],
    workdir: Path | None,
    nproc: int,
    nnodes: int,
    rdzv_endpoint: str | None,
    max_restarts: int,
    threads: int | None,
    device: str,
    jobs: int | None,
    smoke: bool,
    profile: bool,
    track: tuple[str, ...],
    allow_code: bool,
) -> None:
    """Run the stages of SPEC. Cached stages are skipped; an interrupted stage resumes from its last
    checkpoint.

    Checkpoints, converted and compiled files and summary.json are written to the work directory,
    the course of each training to <stage>/<stage>-history.jsonl, and a log to logs/run.log, also
    with --quiet, which still prints what --profile asks for.

    With --nproc, --nnodes or --max-restarts, the processes are started by torch's launcher. Under a
    launcher that sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT (torchrun, SLURM,
    Kubeflow, Ray) every process of it is this command, without these options.
    """
    from qatspec.cli.ranks import launch, rank_zero

    if nnodes > 1 and rdzv_endpoint is None:
        raise click.UsageError("--nnodes needs --rdzv-endpoint HOST:PORT")
    if (nproc > 1 or nnodes > 1 or max_restarts) and "RANK" not in os.environ:
        launch(nproc, nnodes, rdzv_endpoint, max_restarts)
        return
    with rank_zero(device) as ranks:
        if ranks is not None and jobs is not None and jobs > 1:
            raise click.UsageError(
                "--jobs is for a run of one process: candidates share the others"
            )
        _run(
            spec, step, with_deps, overrides, workdir, ranks, threads, device, jobs, smoke,
            profile, track, allow_code,
        )  # fmt: skip


def _run(
    spec: Path,
    step: str | None,
    with_deps: bool,
    overrides: tuple[str, ...],
    workdir: Path | None,
    ranks: Ranks | None,
    threads: int | None,
    device: str,
    jobs: int | None,
    smoke: bool,
    profile: bool,
    track: tuple[str, ...],
    allow_code: bool,
) -> None:
    import torch

    from qatspec.engine import run
    from qatspec.plan import default_threads, resolve
    from qatspec.train.process import pick_device

    _demand_trackers(track)
    processes = ranks.world if ranks else 1
    threads = threads or default_threads(processes)
    loaded = options.load(spec, overrides, allow_code, smoke=smoke)
    torch.set_num_threads(threads)
    chosen = pick_device(device)
    options.check_data(loaded)
    plan = resolve(loaded, device=chosen.type, nproc=processes, threads=threads)
    workdir = workdir or options.default_workdir(loaded)
    stream = people()
    console = CleanConsole(file=stream, width=None if stream.isatty() else 1000)
    with loaded.document.located(), Live(console, options.Warnings(loaded)) as live:
        summary = run(
            plan,
            workdir,
            step=step,
            with_deps=with_deps,
            device=device,
            ranks=ranks,
            on_event=live.show,
            smoke=smoke,
            profile=profile,
            track=track,
            jobs=jobs,
        )
    shown = workdir.with_name(f"{workdir.name}-smoke") if smoke else workdir
    print_summary(console, summary, loaded, shown)
    if settings().format == "json":
        parts = {key: summary[key] for key in ("metrics", "delta_to_float", "performance")}
        echo_json({"format_version": 1, "summary": str(shown / "summary.json"), **parts})


def _demand_trackers(track: tuple[str, ...]) -> None:
    """Raise DiagnosticError QS921 where a tracker is not installed."""
    for name in track:
        if importlib.util.find_spec(TRACKERS[name]) is None:
            raise QS921.error(
                f"--track {name} needs the package `{TRACKERS[name]}`, which is not installed",
                help=f"pip install 'qatspec[{name}]'",
            )


#: stage -> its metrics in the summary
_METRICS = {
    "float": "float",
    "calibration": "calibration",
    "qat": "qat",
    "convert": "integer",
    "compile": "bin",
}


def print_summary(console: Console, summary: Mapping[str, Any], spec: Spec, workdir: Path) -> None:
    """The closing tables: stages with metrics, files, modelled performance."""
    _print_stages(console, summary, _columns(summary, spec))
    _print_files(console, summary)
    for entry in summary["performance"]:
        console.print(
            f"{entry['march']}: {entry['latency_ms']:.3f} ms, {entry['fps']:.0f} FPS "
            f"({entry['source']})",
            highlight=False,
        )
    console.print(f"summary: {workdir / 'summary.json'}", highlight=False, soft_wrap=True)


def _columns(summary: Mapping[str, Any], spec: Spec) -> list[str]:
    """The metric that selects the best checkpoint, and the next metric of the data set."""
    from qatspec.registry import registry

    chooser = registry().dataset(spec.data["val"].dataset.type).metric
    metrics: Mapping[str, float] = next(iter(summary["metrics"].values()), {})
    return [chooser, *(name for name in metrics if name != chooser)][:2]


def _print_stages(console: Console, summary: Mapping[str, Any], columns: list[str]) -> None:
    head = (
        Column("stage", title=True),
        *(Column(name, right=True) for name in (*columns, "to float")),
        Column("status"),
        Column("time", right=True),
    )
    rows = []
    for step in summary["steps"]:
        key = _METRICS.get(step["stage"], "")
        metrics = summary["metrics"].get(key, {})
        delta = summary["delta_to_float"].get(key, {}).get(columns[0])
        is_of_stage = key in ("", step["stage"]) or not metrics
        row = (
            step["stage"] if is_of_stage else f"{step['stage']} ({key})",
            *(f"{metrics[c]:.2f}" if c in metrics else "" for c in columns),
            "" if delta is None else f"{delta:+.2f}",
            step["status"],
            duration(step["seconds"]) if step["status"] != "cached" else "",
        )
        rows.append(row)
        tried = summary.get("tried")
        if tried is not None and tried["stage"] == step["stage"]:
            base = summary["metrics"].get("float", {}).get(columns[0])
            rows += candidate_rows(tried, columns, base)
    print_columns(console, head, rows)


def candidate_rows(
    tried: Mapping[str, Any], columns: Sequence[str], of_float: float | None
) -> list[tuple[str, ...]]:
    """Rows of the candidates of a stage, and of mean and spread over seeds. of_float: the first
    metric in float."""
    rows = []
    for one in tried["candidates"]:
        figures = [one["metrics"].get(column) for column in columns]
        delta = _delta(figures[0], of_float if tried["stage"] != "float" else None)
        cells = ("" if figure is None else f"{figure:.2f}" for figure in figures)
        status = "chosen" if one["name"] == tried["chosen"] else ""
        rows.append((f"  {one['name']}", *cells, delta, status, duration(one["seconds"])))
    for group in tried["groups"]:
        name = ", ".join(filter(None, (group["name"], f"mean of {group['seeds']} seeds")))
        mean, spread = group["mean"], group["spread"]
        cells = (f"{mean[c]:.2f} ±{spread[c]:.2f}" if c in mean else "" for c in columns)
        delta = _delta(mean.get(columns[0]), of_float if tried["stage"] != "float" else None)
        rows.append((f"  {name}", *cells, delta, "", ""))
    return rows


def _delta(value: float | None, of_float: float | None) -> str:
    return "" if value is None or of_float is None else f"{value - of_float:+.2f}"


def _print_files(console: Console, summary: Mapping[str, Any]) -> None:
    """A table of the files to deploy or to start from: no histories, of checkpoints the best."""
    rows = [
        (a["path"], file_size(a["size"]), a["sha256"][:12], _exactness(a))
        for a in summary["artifacts"]
        if a["kind"] != "history"
        and (a["kind"] != "checkpoint" or a["path"].endswith("-best.pth.tar"))
    ]
    head = (
        Column("file", title=True),
        Column("size", right=True),
        Column("sha256"),
        Column("against the Program"),
    )
    if rows:
        print_columns(console, head, rows)


def _exactness(artifact: Mapping[str, Any]) -> str:
    """Return how far the compiled file's integers are from the Program's, "" where it is
    unknown."""
    if artifact["bit_exact"] is None:
        return ""
    distance = "bit-exact" if artifact["bit_exact"] else "not bit-exact"
    return ": ".join(filter(None, (distance, artifact["compared"])))
