"""`qatspec perf`: modelled latency, traffic and memory, of a compiled file or before training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from qatspec.cli import options
from qatspec.cli.columns import Column, print_columns
from qatspec.cli.output import echo, echo_json, settings, show, tables
from qatspec.cli.outputs import is_stdout, write_output
from qatspec.diag import DiagnosticError
from qatspec.registry import registry

_HEAD = (
    Column("march", title=True),
    Column("latency", right=True),
    Column("FPS", right=True),
    Column("DDR a frame", right=True),
    Column("on chip", right=True),
    Column("on the CPU", right=True, usual="0"),
    Column("error of the latency, or what is refused"),
)


@click.command(name="perf", short_help="Model latency, traffic and memory, before training too.")
@click.argument("source", metavar="SPEC|FILE.bin", type=click.Path(path_type=Path))
@options.overrides
@options.allow_code
@click.option(
    "--march",
    "marches",
    multiple=True,
    metavar="NAME",
    help="March to model SPEC for; repeatable; `all`: every march with a model of time. Default: "
    "that of the spec.",
)
@click.option(
    "--trace",
    type=click.Path(path_type=Path),
    metavar="FILE.json",
    help="Write the schedule of FILE.bin for Perfetto (ui.perfetto.dev).",
)
@click.option(
    "--page",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="Write a page of FILE.bin with charts: timeline, memory on chip, roofline, layers, and "
    "why values pass through DDR.",
)
def command(
    source: Path,
    overrides: tuple[str, ...],
    allow_code: bool,
    marches: tuple[str, ...],
    trace: Path | None,
    page: Path | None,
) -> None:
    """Model what SPEC's network, or a compiled FILE.bin, costs on the chip: latency with its error,
    frames a second, bytes through DDR a frame, memory on chip, and what runs on the CPU.

    A spec needs no training and no data: the network is built, quantized on one random batch and
    compiled at level `opt` of the spec for each march. A march that refuses it says why. Figures
    are modelled, not measured. What a march leaves to the CPU is a warning with its price. Exit
    code 1: every march refuses the network; with --strict, also where the CPU runs a part of it.
    """
    if source.suffix == ".bin":
        if marches:
            raise click.UsageError("--march is for a spec: a compiled file has its march")
        _compiled(source, trace, page)
        return
    if trace is not None or page is not None:
        option = "--page" if trace is None else "--trace"
        raise click.UsageError(f"{option} needs a compiled file: FILE.bin")
    from qatspec.backend.perf import parts_on_the_cpu

    loaded = options.load(source, overrides, allow_code, without_data=True)
    names = _tiled() if "all" in marches else list(marches) or [loaded.march]
    reports = {name: _modelled(source, (*overrides, f"march={name}"), allow_code) for name in names}
    if settings().format == "json":
        echo_json(reports, open_keys=True)
    else:
        rows = [[name, *_row(report)] for name, report in reports.items()]
        print_columns(tables(), _HEAD, rows)
        for name, report in reports.items():
            _print_behind(name, report)
    for name, report in reports.items():
        for warning in parts_on_the_cpu(report):
            options.warn(loaded, warning if name == loaded.march else replace(warning, at=None))
    if all("refused" in report for report in reports.values()):
        raise click.exceptions.Exit(1)


def _tiled() -> list[str]:
    """The marches that have a model of time."""
    names = registry().names("march")
    return [n for n in names if registry().march(n).capabilities.hardware is not None]


def _modelled(source: Path, overrides: Sequence[str], allow_code: bool) -> dict[str, Any]:
    """The summary of `perf`, or {"refused": [...]} with the messages."""
    from qatspec.stages.estimate import untrained_perf

    try:
        loaded = options.load(source, overrides, allow_code, without_data=True)
        stage = options.quantized_stage(loaded, None)
        compiling = loaded.stages.get("compile")
        with loaded.document.located():
            return untrained_perf(loaded, stage, compiling.options if compiling else {})
    except DiagnosticError as error:
        errors = [d for d in error.diagnostics if d.severity == "error"]
        return {"refused": [f"{d.code}: {d.message}" for d in errors]}


def _compiled(file: Path, trace: Path | None, page: Path | None) -> None:
    from qatspec.backend import perf
    from qatspec.backend.perf import parts_on_the_cpu
    from qatspec.program import Artifact

    artifact = Artifact.load(file)
    report = perf(artifact)["summary"]
    if settings().format == "json":
        echo_json(report)
    else:
        print_columns(tables(), _HEAD, [[artifact.march, *_row(report)]])
        _print_behind(artifact.march, report)
    show(replace(warning, at=None) for warning in parts_on_the_cpu(report))
    if trace is not None:
        from qatspec.backend.trace import trace_events

        write_output(trace, json.dumps(trace_events(artifact)) + "\n")
        if not is_stdout(trace):
            echo(str(trace))
    if page is not None:
        from qatspec.backend.perf import perf_page

        write_output(page, perf_page(artifact))
        if not is_stdout(page):
            echo(str(page))


def _row(report: Mapping[str, Any]) -> list[str]:
    if "refused" in report:
        return ["", "", "", "", "0", "; ".join(dict.fromkeys(report["refused"]))]
    cpu = report["latency of the CPU's parts (ms)"]
    return [
        f"{report['latency (ms)']:.3f} ms",
        f"{report['FPS']:,.0f}",
        f"{report['DDR megabytes per frame']:.2f} MB",
        f"{report['on-chip bytes used'] / 1024:,.0f} KB",
        f"{cpu:.3f} ms" if cpu else "0",
        str(report["latency error"]),
    ]


def _print_behind(name: str, report: Mapping[str, Any]) -> None:
    """What the CPU does behind the compiled network."""
    if tail := report.get("tail on the CPU, not in the latency (ms)"):
        echo(f"  {name}: besides, the CPU takes {tail:.3f} ms to dequantize the outputs once")
    if most := report.get("predictions on the CPU, at most, not in the latency (ms)"):
        echo(f"  {name}: and at most {most:.3f} ms to make predictions of them (decoding, NMS)")
