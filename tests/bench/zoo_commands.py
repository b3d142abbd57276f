"""Every net of the zoo at test size on the tiled marches: whether the commands of a compiled file
give the integers of the referee, or why the march refuses the net.

    python tests/bench/zoo_commands.py [NAMES ...] [--march bernoulli2 bayes bayes_e] [--rows FILE]

One seeded frame of noise a net. With `--rows`, finished rows are kept in FILE and not made again.
Exit code 1: some commands gave other integers.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qatspec.api import DiagnosticError, compile, interpret, lower, prepare, set_stage
from qatspec.diag import PluginFault
from qatspec.prepare.inputs import random_inputs
from qatspec.stages.foresight import stand_ins

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.zoo.zoo import Net, nets

MARCHES = ("bernoulli2", "bayes", "bayes_e")


def measure(net: Net, march: str) -> dict[str, Any]:
    """One row: {net, march, result, seconds}; result: "equal", "differs" or what is refused."""
    start = time.process_time()
    torch.manual_seed(0)
    try:
        result = compared(net, march)
    except (DiagnosticError, PluginFault) as error:
        shown = error.diagnostics if isinstance(error, DiagnosticError) else [error.diagnostic()]
        texts = [f"{d.code}: {d.message}" for d in shown if d.severity == "error"]
        more = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
        result = f"refused: {texts[0]}{more}"
    seconds = round(time.process_time() - start, 1)
    return {"net": net.name, "march": march, "result": result, "seconds": seconds}


def compared(net: Net, march: str) -> str:
    model = net.build(**net.tiny).eval()
    example = (torch.randn(1, net.channels, *net.tiny_size),)
    prepared = prepare(model, example, qconfig="horizon_qat", prepare="horizon", march=march)
    inputs = random_inputs(prepared.example_inputs)
    with torch.no_grad(), stand_ins(prepared.model) as spoilt:
        prepared.model(*inputs)
    for fake_quant in spoilt:
        fake_quant.not_finite.zero_()
    set_stage(prepared, "eval")
    program = lower(prepared, prepared.example_inputs)
    artifact = compile(program, march, opt="balance", verify=False)
    rng = np.random.default_rng(0)
    ints = [rng.integers(-128, 128, (1, *p.shape)).astype(p.dtype) for p in program.inputs]
    pairs = zip(artifact.run(*ints), interpret(program, *ints), strict=True)
    return "equal" if all(np.array_equal(mine, theirs) for mine, theirs in pairs) else "differs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="nets; default: all")
    parser.add_argument("--march", nargs="+", choices=MARCHES, default=list(MARCHES))
    parser.add_argument("--rows", type=Path, help="JSON lines of finished rows")
    given = parser.parse_args()
    if unknown := sorted(set(given.names) - {net.name for net in nets()}):
        parser.error(f"no net of the zoo: {', '.join(unknown)}")
    warnings.filterwarnings("ignore")
    done: dict[tuple[str, str], dict[str, Any]] = {}
    if given.rows and given.rows.exists():
        rows = [json.loads(text) for text in given.rows.read_text().splitlines()]
        done = {(row["net"], row["march"]): row for row in rows}
    results = []
    for net in nets():
        if given.names and net.name not in given.names:
            continue
        for march in given.march:
            row = done.get((net.name, march))
            if row is None:
                row = measure(net, march)
                if given.rows:
                    with given.rows.open("a") as file:
                        file.write(json.dumps(row) + "\n")
            results.append(row["result"])
            print(
                f"{row['net']:<26} {row['march']:<10} {row['seconds']:>6.1f} s  {row['result']}",
                flush=True,
            )
    equal, refused = results.count("equal"), sum(r.startswith("refused") for r in results)
    print(f"{equal} equal, {refused} refused, {len(results) - equal - refused} differ")
    if "differs" in results:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
