"""Pairs of edits of a spec and its inputs: the digest of a stage identifies its tensors.

    python -m tests.bench.mutations [PAIRS] [SEED]

The longer form of tests/unit/plan/test_mutations.py. It draws PAIRS (default 200) pairs of edits,
runs each afresh, and compares every run with every other one: two runs of a stage with one digest
must have the same tensors, optimizer and generator states (a wrong "cached" otherwise). It counts
the runs that have other digests for the same tensors (a needless "changed"). A pair that is no good
spec is left out. Exit code 1 where a digest stands for two contents.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from qatspec.diag import DiagnosticError
from tests.mutations import MUTATIONS, STAGES, both, make


def main(pairs: int, seed: int) -> int:
    """Run and print; returns the exit code."""
    rng = random.Random(seed)
    contents: dict[tuple[str, str], set[str]] = defaultdict(set)
    digests: dict[tuple[str, str], set[str]] = defaultdict(set)
    wrong, refused = 0, 0
    for number in range(pairs):
        names = rng.sample(list(MUTATIONS), 2)
        folder = Path(tempfile.mkdtemp(prefix="mutations-"))
        try:
            made = make(folder, both(*(MUTATIONS[name] for name in names)))
        except (DiagnosticError, KeyError, FileNotFoundError):
            refused += 1
            continue
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        for stage, one in made.items():
            contents[stage, one.identity].add(one.contents)
            digests[stage, one.contents].add(one.identity)
            if len(contents[stage, one.identity]) > 1:
                wrong += 1
                print(
                    f"WRONG {number}: {stage} after {names}: one digest, two contents", flush=True
                )
    print(f"{pairs} pairs, {refused} refused, {wrong} wrong")
    for stage in STAGES:
        runs = [found for (name, _), found in digests.items() if name == stage]
        needless = sum(len(found) - 1 for found in runs)
        print(f"{stage}: {len(runs)} contents, {needless} digests more than these")
    return 1 if wrong else 0


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    sys.exit(main(*(given + [200, 0][len(given) :])))
