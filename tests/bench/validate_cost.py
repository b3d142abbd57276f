"""CPU of `qatspec validate` on a shipped spec against the bare import of what it rests on.

    python tests/bench/validate_cost.py

Budget: validate costs at most twice the bare import of yaml, jsonschema, pluggy and click.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SPEC = Path(__file__).parents[2] / "specs" / "quickstart.yaml"
BARE = "import yaml, jsonschema, pluggy, click"
VALIDATE = "import sys; from qatspec.cli.main import main; main(['validate', sys.argv[1]])"
REPEATS = 9


def cpu_seconds(code: str, *arguments: str) -> float:
    """The least CPU time of several runs in a process of their own, seconds."""
    spent = []
    for _ in range(REPEATS):
        before = os.times()
        command = [sys.executable, "-c", code, *arguments]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        after = os.times()
        spent.append(
            after.children_user + after.children_system
            - before.children_user - before.children_system
        )  # fmt: skip
    return min(spent)


if __name__ == "__main__":
    bare, validate = cpu_seconds(BARE), cpu_seconds(VALIDATE, str(SPEC))
    print(f"bare import {bare:.2f} s, validate {validate:.2f} s: {validate / bare:.1f} times")
