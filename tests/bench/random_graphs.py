"""Random nets: interpreter == executor == onnxruntime, every integer, and lowering never raises.

    python tests/bench/random_graphs.py --count 1000 --seed 0 --log random_graphs.jsonl

A line of JSON a graph goes to --log; a second run leaves out the
graphs that it holds. Exit code 1 where a graph failed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from qatspec.export import OnnxRunner, to_onnx  # noqa: E402
from qatspec.lower import lower  # noqa: E402
from qatspec.program import interpret  # noqa: E402
from tests.random_nets import random_net  # noqa: E402


def check(seed: int, folder: Path) -> dict[str, Any]:
    """What came of one graph: its op kinds, and "problem" where something is wrong."""
    try:
        prepared, x = random_net(seed)
        program = lower(prepared, (x,))
        ints = program.quantize(x.numpy())
        referee = interpret(program, *ints)
        path = folder / "random.onnx"
        to_onnx(program, path)
        ways = {
            "executor": program.run(*ints),
            "onnxruntime": OnnxRunner.load(path, threads=1).run(*ints),
        }
        kinds = [op.kind for op in program.ops]
        for name, found in ways.items():
            if not all(np.array_equal(a, b) for a, b in zip(found, referee, strict=True)):
                return {"seed": seed, "kinds": kinds, "problem": f"{name} differs"}
        return {"seed": seed, "kinds": kinds, "integers": sum(r.size for r in referee)}
    except Exception as problem:  # noqa: BLE001 - whatever goes wrong is what this looks for
        where = traceback.extract_tb(problem.__traceback__)[-1]
        text = f"{type(problem).__name__} {problem} ({where.name}:{where.lineno})"
        return {"seed": seed, "kinds": [], "problem": text}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, default=Path("random_graphs.jsonl"))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    done = {}
    if arguments.log.exists():
        done = {r["seed"]: r for r in map(json.loads, arguments.log.read_text().splitlines())}
    seeds = range(arguments.seed, arguments.seed + arguments.count)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, arguments.log.open("a") as log:
        for seed in seeds:
            if seed not in done:
                done[seed] = check(seed, Path(folder))
                log.write(json.dumps(done[seed]) + "\n")
                log.flush()
    found = [done[seed] for seed in seeds]
    kinds = Counter(kind for record in found for kind in record["kinds"])
    print(f"{len(found)} graphs, {sum(kinds.values())} ops, {time.perf_counter() - start:.0f} s")
    print(", ".join(f"{kind} {count}" for kind, count in kinds.most_common()))
    print(f"{sum(r.get('integers', 0) for r in found)} output integers equal on all three")
    failed = [record for record in found if "problem" in record]
    for record in failed:
        print(f"seed {record['seed']}: {record['problem']}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
