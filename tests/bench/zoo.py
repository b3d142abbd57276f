"""One table over the zoo: parameters, multiply-adds, quantized groups, seconds of `prepare`, and
what stays in float and why.

A program, not a test: `python tests/bench/zoo.py [NAMES ...] [--sizes tiny public] [--rows FILE]`.
With `--rows`, each finished row is kept in the file and not measured again, so that an interrupted
run goes on where it was. Public sizes of more than `--limit` multiply-adds (default 5e9) are only
counted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from qatspec.graph import DecisionKind
from qatspec.prepare import prepare

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.zoo import count
from tests.zoo.zoo import Net, nets


def measure(net: Net, size: str, limit: float) -> dict[str, Any]:
    """One row: {net, size, params, macs, groups, seconds, float}; without the last three where the
    net has more than `limit` multiply-adds."""
    options = net.public if size == "public" else net.tiny
    shape = net.tiny_size
    if size == "public":
        default = (224, 224) if len(net.tiny_size) == 2 else net.tiny_size
        shape = net.published.size if net.published else default
    with torch.device("meta"):
        shapes = net.build(**options)
    macs = count.macs(shapes, shape, net.channels)
    row: dict[str, Any] = {
        "net": net.name, "size": size, "params": count.params(shapes), "macs": macs,
    }  # fmt: skip
    if macs > limit:
        return row
    model = net.build(**options).eval()
    start = time.perf_counter()
    example = (torch.zeros(1, net.channels, *shape),)
    prepared = prepare(model, example, qconfig="horizon_qat", prepare="horizon", march="bayes")
    row["seconds"] = round(time.perf_counter() - start, 2)
    decisions = prepared.decisions.values()
    row["groups"] = len({d.fake_quant for d in decisions if d.activation and d.fake_quant})
    reasons = Counter(
        f"{d.op}: {d.cause}"
        for d in decisions
        if d.kind in (DecisionKind.FLOAT, DecisionKind.UNSUPPORTED)  # not mere moves of floats
    )
    row["float"] = dict(sorted(reasons.items()))
    return row


def line(row: dict[str, Any]) -> str:
    known = "groups" in row
    groups, seconds = (row["groups"], f"{row['seconds']:.2f}") if known else ("-", "-")
    reasons = "; ".join(f"{n} x {reason}" for reason, n in row.get("float", {}).items())
    return (
        f"{row['net']:<24} {row['size']:<6} {row['params']:>12,} {row['macs'] / 1e6:>11,.1f} "
        f"{groups:>6} {seconds:>7}  {reasons}"
    ).rstrip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="nets; default: all")
    parser.add_argument("--sizes", nargs="+", choices=("tiny", "public"), default=["tiny"])
    parser.add_argument("--rows", type=Path, help="JSON lines of finished rows")
    parser.add_argument("--limit", type=float, default=5e9, help="multiply-adds to prepare at most")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    done: dict[tuple[str, str], dict[str, Any]] = {}
    if given.rows and given.rows.exists():
        rows = [json.loads(text) for text in given.rows.read_text().splitlines()]
        done = {(row["net"], row["size"]): row for row in rows}
    print(
        f"{'net':<24} {'size':<6} {'params':>12} {'M MACs':>11} {'groups':>6} {'prepare':>7}  float"
    )
    for net in nets():
        if given.names and net.name not in given.names:
            continue
        for size in given.sizes:
            row = done.get((net.name, size))
            if row is None:
                row = measure(net, size, given.limit)
                if given.rows:
                    with given.rows.open("a") as file:
                        file.write(json.dumps(row) + "\n")
            print(line(row), flush=True)


if __name__ == "__main__":
    main()
