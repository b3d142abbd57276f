"""`qatspec advise`: what costs most on the chip, and changes that pay, each proved by compiling."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qatspec.cli import options
from qatspec.cli.columns import Column, print_columns
from qatspec.cli.output import echo, echo_json, settings, tables

if TYPE_CHECKING:
    from qatspec.backend.advise import Advice, Advised

#: Layers that are listed.
_DEAREST = 8
#: Modules that a row names; the others are counted.
_NAMED = 2

_COSTS = (
    Column("layer", title=True),
    Column("time", right=True),
    Column("of the latency", right=True),
    Column("DDR", right=True),
    Column("multiply-adds", right=True, usual="0"),
    Column("of the array", right=True, usual=""),
    Column("line"),
)
_ADVICE = (
    Column("change", title=True),
    Column("gain", right=True),
    Column("latency before", right=True),
    Column("after", right=True),
    Column("modules", usual=""),
    Column("line", usual=""),
    Column("why"),
)
_FREE = (
    Column("change", title=True),
    Column("multiply-adds of the network", right=True),
    Column("latency", right=True),
    Column("modules"),
    Column("line"),
)


@click.command(name="advise", short_help="Find changes that make a network faster on the chip.")
@options.spec
@options.overrides
@options.allow_code
@click.option(
    "--march",
    metavar="NAME",
    help="March to advise for. Default: that of the spec.",
)
@click.option(
    "--tries",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="How many changes are compiled: those that may gain most.",
)
def command(
    spec: Path, overrides: tuple[str, ...], allow_code: bool, march: str | None, tries: int
) -> None:
    """Print what costs most of SPEC's network on the chip, and what to change: channels that do not
    fill the array, groups, large kernels, activations that the CPU runs, layers of little work,
    values that do not stay on chip, options of compile.

    Every change is made, compiled with the options of the spec and compared: the gain is the
    difference of the modelled latencies, and what gains nothing is not printed. No training and no
    data: as `qatspec perf SPEC`. What a change does to the accuracy is for a training to show.
    Exit code 1: the march refuses the network.
    """
    from qatspec.stages.estimate import untrained_advice

    chosen = (*overrides, *([f"march={march}"] if march else []))
    loaded = options.load(spec, chosen, allow_code, without_data=True)
    stage = options.quantized_stage(loaded, None)
    compiling = loaded.stages.get("compile")

    def report(line: str) -> None:
        if sys.stderr.isatty():
            echo(line, err=True)

    with loaded.document.located():
        advised = untrained_advice(
            loaded, stage, compiling.options if compiling else {}, most=tries, report=report
        )
    if settings().format == "json":
        echo_json(_data(loaded.march, advised))
    else:
        _print(loaded.march, advised)


def _data(march: str, advised: Advised) -> dict[str, object]:
    record = asdict(advised)
    for kind in ("advice", "free"):
        for row, advice in zip(record[kind], getattr(advised, kind), strict=True):
            row["gain"] = advice.gain
    return {"march": march, "unit": "us", **record}


def _print(march: str, advised: Advised) -> None:
    latency, console = advised.latency, tables()
    echo(f"{march}: {latency / 1e3:.3f} ms, modelled. What costs most:")
    rows = [
        [
            cost.name,
            f"{cost.us:,.1f} us",
            f"{cost.us / latency:.1%}",
            f"{cost.ddr_us:,.1f} us",
            f"{cost.macs:,}",
            "on the CPU" if cost.host else f"{cost.filled:.0%}" if cost.macs else "",
            cost.source,
        ]
        for cost in advised.costs[:_DEAREST]
    ]
    print_columns(console, _COSTS, rows)
    echo(f"\n{advised.tried} of {advised.proposed} changes were compiled. These are faster:")
    print_columns(console, _ADVICE, [_row(advice) for advice in advised.advice])
    if not advised.advice:
        echo("none")
    if advised.together is not None:
        count, after = advised.together
        echo(f"{count} changes of the network at once: {_change(latency, after)}")
    if advised.free:
        echo("\nThese layers may be wider and take no more time:")
        free = [
            [a.what, f"+{a.more:.1%}", _change(a.before, a.after), _modules(a.modules), a.source]
            for a in advised.free
        ]
        print_columns(console, _FREE, free)


def _row(advice: Advice) -> list[str]:
    return [
        advice.what,
        f"{advice.gain:,.1f} us ({advice.gain / advice.before:.1%})",
        f"{advice.before / 1e3:.3f} ms",
        f"{advice.after / 1e3:.3f} ms",
        _modules(advice.modules),
        advice.source,
        advice.why,
    ]


def _change(before: float, after: float) -> str:
    return f"{before / 1e3:.3f} -> {after / 1e3:.3f} ms"


def _modules(names: Sequence[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
