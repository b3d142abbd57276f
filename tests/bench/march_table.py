"""Which specs and zoo nets each march takes, and why not.

    python -m tests.bench.march_table [NAMES ...] [--marches bayes qnn ...] [--rows FILE]

NAMES are specs of specs/ and nets of tests/zoo; default: all. Specs are prepared as they are
written, with the pictures of their `smoke`; nets of the zoo at their test size, with every output
quantized. Each is prepared for every march, with random weights, calibrated on one random picture
and lowered; the march is then asked about every integer op, as `qatspec check` does before any
training. Nothing is compiled, so that no runtime needs to be installed.

With `--rows`, each finished row is kept in the file as JSON and not found again.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from qatspec.api import DiagnosticError, load, lower, prepare, registry, set_stage
from qatspec.graph import Prepared
from qatspec.prepare import prepare_spec
from qatspec.stages.context import build_model
from qatspec.types import Arithmetic

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.zoo.zoo import Net, nets

SPECS = Path(__file__).parents[2] / "specs"

#: The model prepared for a march of that name.
Prepare = Callable[[str], Prepared]


def candidates(names: list[str]) -> Iterator[tuple[str, Prepare]]:
    """Every spec and net, or those of `names`."""
    for path in sorted(SPECS.glob("*.yaml")):
        if not names or path.stem in names:
            yield path.stem, lambda march, path=path: of_spec(path, march)
    for net in nets():
        if not names or net.name in names:
            yield net.name, lambda march, net=net: of_zoo(net, march)


def of_spec(path: Path, march: str) -> Prepared:
    """A spec's model for a march; compile options, which are its own march's, are not read."""
    spec = replace(load(path, smoke=has_smoke(path)), march=march)
    torch.manual_seed(0)
    prepared = prepare_spec(spec, "qat", build_model(spec).eval())
    return calibrated(prepared)


def has_smoke(path: Path) -> bool:
    """Return whether a spec, or what it extends, has smaller pictures to try it with."""
    return "smoke:" in path.read_text("utf-8") or "extends:" in path.read_text("utf-8")


def of_zoo(net: Net, march: str) -> Prepared:
    """A net of the zoo for a march, every output quantized."""
    torch.manual_seed(0)
    x = torch.randn(1, net.channels, *net.tiny_size)
    options: dict[str, Any] = {"qconfig": "horizon_qat", "quantize_output": True}
    return calibrated(prepare(net.build(**net.tiny).eval(), (x,), march=march, **options))


def calibrated(prepared: Prepared) -> Prepared:
    """Scales from one random picture."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(x.shape, generator=generator) for x in prepared.example_inputs]
    with torch.no_grad():
        set_stage(prepared, "calibration")
        prepared.model(*images)
    set_stage(prepared, "eval")
    return prepared


def answers(make: Prepare, marches: list[str]) -> dict[str, list[str]]:
    """march -> reasons why it does not take the model, none where it does. Marches of one
    arithmetic are given one Program."""
    groups: dict[Arithmetic, list[str]] = {}
    for march in marches:
        groups.setdefault(registry().march(march).arithmetic, []).append(march)
    found: dict[str, list[str]] = {}
    for group in groups.values():
        try:
            prepared = make(group[0])
            program = lower(prepared, prepared.example_inputs)
        except DiagnosticError as problem:
            if problem.diagnostics[0].code.startswith("QS0"):  # a plugin is broken, not the model
                raise
            found |= {march: [d.message for d in problem.diagnostics] for march in group}
            continue
        for march in group:
            record = registry().march(march)
            verdicts = (record.supports(op, program) for op in program.ops)
            found[march] = list(dict.fromkeys(v.reason for v in verdicts if not v.ok))
    return {march: found[march] for march in marches}


def show(rows: dict[str, dict[str, list[str]]], marches: list[str]) -> None:
    """The table as Markdown, and the count of each march."""
    print(f"| model | {' | '.join(marches)} |")
    print("|---|" + "---|" * len(marches))
    for name, row in rows.items():
        cells = ["yes" if not row[march] else f"no: {reason(row[march])}" for march in marches]
        print(f"| {name} | {' | '.join(cells)} |")
    for march in marches:
        print(f"{march}: {sum(not row[march] for row in rows.values())} of {len(rows)}")


def reason(reasons: list[str]) -> str:
    """The first reason, and how many there are besides."""
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return reasons[0].replace("|", "/")[:120] + more


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="specs and nets; default: all")
    parser.add_argument("--marches", nargs="+", help="default: all that are registered")
    parser.add_argument("--rows", type=Path, help="JSON lines of finished rows")
    given = parser.parse_args()
    known = {path.stem for path in SPECS.glob("*.yaml")} | {net.name for net in nets()}
    if unknown := sorted(set(given.names) - known):
        parser.error(f"neither a spec nor a net of the zoo: {', '.join(unknown)}")
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    marches = given.marches or sorted(registry().names("march"))
    rows: dict[str, dict[str, list[str]]] = {}
    if given.rows and given.rows.exists():
        rows = dict(json.loads(line) for line in given.rows.read_text().splitlines())
    for name, make in candidates(given.names):
        if name not in rows or not set(marches) <= set(rows[name]):
            rows[name] = answers(make, marches)
            print(f"  {name}", file=sys.stderr, flush=True)
            if given.rows:
                with given.rows.open("a") as file:
                    file.write(json.dumps([name, rows[name]]) + "\n")
    show(rows, marches)


if __name__ == "__main__":
    main()
