"""Random modules, written as source code: equal in every form, or refused by a diagnostic.

    python tests/bench/random_modules.py --count 2000 --seed 0 --log random_modules.jsonl
    python tests/bench/random_modules.py --show 17

A line of JSON for each module goes to --log; a second run omits the modules that it holds. --budget
stops after so many seconds. --show prints the source of one module. Exit code 1 where a module was
wrong or crashed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.module_check import check  # noqa: E402
from tests.random_modules import write_module  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, default=2400, help="seconds")
    parser.add_argument("--log", type=Path, default=Path("random_modules.jsonl"))
    parser.add_argument("--show", type=int, help="print the source of this seed's module")
    arguments = parser.parse_args()
    if arguments.show is not None:
        print(write_module(arguments.show)[0])
        return
    done = {}
    if arguments.log.exists():
        done = {r["seed"]: r for r in map(json.loads, arguments.log.read_text().splitlines())}
    seeds = range(arguments.seed, arguments.seed + arguments.count)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, arguments.log.open("a") as log:
        for seed in seeds:
            if time.perf_counter() - start > arguments.budget:
                break
            if seed not in done:
                done[seed] = check(seed, Path(folder))
                log.write(json.dumps(done[seed]) + "\n")
                log.flush()
    found = [done[seed] for seed in seeds if seed in done]
    results = Counter(r["result"] for r in found)
    print(f"{len(found)} modules in {time.perf_counter() - start:.0f} s: {dict(results)}")
    codes = Counter(f"{r['code']} in {r['stage']}" for r in found if r["result"] == "refused")
    for name, count in codes.most_common():
        print(f"  {count} {name}")
    failed = [r for r in found if r["result"] in ("wrong", "crashed")]
    for record in failed:
        print(f"seed {record['seed']}: {record['result']} in {record['stage']}: {record['said']}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
