"""`qatspec check --after PASS`: the graph of the model between two passes of prepare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table

from qatspec.cli import options
from qatspec.cli.output import echo, echo_json, settings, tables
from qatspec.diag.words import nearest

if TYPE_CHECKING:
    from rich.console import Console

    from qatspec.prepare.listing import Row
    from qatspec.spec import Spec

FORMAT = 1
_UNBOUNDED = 10_000  # columns: wider than any table


def print_after(spec: Spec, stage: str, name: str) -> None:
    """Run the passes up to the one called `name`, and print the graph of each prepared module.

    Raises UsageError, with a list of the passes, for a name that is not among them.
    """
    from qatspec.prepare import graphs_after
    from qatspec.prepare.passes import PASSES
    from qatspec.stages.context import build_model

    names = [step.name for step in PASSES]
    if name not in names:
        near = nearest(name, names)
        hint = f"; did you mean `{near}`?" if near else ""
        listed = [f"  {step.name:{max(map(len, names))}}  {step.summary}" for step in PASSES]
        lines = [f"no pass is called `{name}`{hint}", "", "The passes, in order:", *listed]
        raise click.UsageError("\n".join(lines))
    with spec.document.located():
        graphs = graphs_after(spec, stage, build_model(spec), name)
    if settings().format == "json":
        data = {"format": FORMAT, "stage": stage, "pass": name, "graphs": list(map(asdict, graphs))}
        echo_json(data)
        return
    console = tables()
    number = names.index(name)
    echo(f"stage {stage}, after pass {number + 1} of {len(PASSES)}, {name}: ", nl=False)
    echo(PASSES[number].summary)
    for graph in graphs:
        echo(f"\n{f'module `{graph.path}`' if graph.path else 'the whole model'}")
        if graph.rows:
            show_rows(graph.rows, spec, console)
        else:
            echo("not traced yet: there is no graph before the pass `trace`")


def show_rows(rows: Sequence[Row], spec: Spec, console: Console) -> None:
    """A table with a line for each node; a few lines for each where the console is too narrow."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("node", "op", "operands", "result", "module", "model code", "decided", "rule"):
        table.add_column(name, overflow="fold", no_wrap=name not in ("operands", "decided"))
    for row in rows:
        cells = (row.node, row.op, row.operands, row.result, row.module, row.code, row.notes)
        table.add_row(*cells, _rule(row, spec))
    unbounded = console.options.update(max_width=_UNBOUNDED)
    if Measurement.get(console, unbounded, table).minimum <= console.width:
        console.print(table)
        return
    for row in rows:
        console.print(f"{row.node} = {row.op}({row.operands})")
        where = (row.result, row.module, row.code)
        for words in (where, (row.notes, _rule(row, spec))):
            if any(words):
                console.print(Padding("  ".join(filter(None, words)), (0, 0, 0, 4)))


def _rule(row: Row, spec: Spec) -> str:
    """file:line of the rule that decides, without folders."""
    return options.short_location(options.spec_location(spec, row.rule)) if row.rule else ""
