"""Can a person fix a spec who sees nothing but the bad file and the printed text?

    python -m tests.bench.blind_trial lay trial/      # a numbered folder a mistake, in any order
    python -m tests.bench.blind_trial check trial/    # once each has its fixed.yaml

Each folder holds `spec.yaml` and `printed.txt`, and nothing that tells which mistake it is or how
it is meant to be fixed. The reader writes `fixed.yaml` beside them: one attempt, nothing is run.
`check` says how many of those the compiler takes without a word. Mistakes whose fix lies outside
the YAML (a broken plugin, `--set`, the environment) are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import tempfile
from pathlib import Path

from tests.diagnostics.test_diagnostics import HERE, validate

OUTSIDE = ("QS00", "QS303_environment", "QS313")  # QS313 is a warning


def lay(target: Path, seed: int) -> None:
    """Write the folders, and into key.json which case each of them is."""
    cases = [case.parent.name for case in sorted(HERE.glob("QS*/fixed.yaml"))]
    cases = [case for case in cases if not case.startswith(OUTSIDE)]
    random.Random(seed).shuffle(cases)
    for number, case in enumerate(cases, 1):
        folder = target / f"{number:03}"
        folder.mkdir(parents=True)
        shutil.copy(HERE / case / "spec.yaml", folder / "spec.yaml")
        shutil.copy(HERE / case / "expected.txt", folder / "printed.txt")
    (target / "key.json").write_text(json.dumps(cases, indent=1))
    print(f"{len(cases)} folders; keep key.json from the reader")


def check(target: Path) -> None:
    """Put each fixed file beside what its case extends, and compile it."""
    cases = json.loads((target / "key.json").read_text())
    failed = []
    for number, case in enumerate(cases, 1):
        fixed = target.resolve() / f"{number:03}" / "fixed.yaml"
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(shutil.copytree(HERE / case, Path(scratch) / case))
            shutil.copy(fixed, folder / "fixed.yaml")
            os.chdir(folder)
            printed = validate(folder, "fixed.yaml")
            os.chdir(HERE)
        if printed:
            failed.append((number, case, printed.splitlines()[0]))
    print(f"{len(cases) - len(failed)} of {len(cases)} fixed at the first try")
    for row in failed:
        print(*row)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("do", choices=("lay", "check"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    lay(asked.folder, asked.seed) if asked.do == "lay" else check(asked.folder)
