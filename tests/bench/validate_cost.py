"""CPU of `qatspec validate` on a shipped spec against the bare import of what it rests on.

    python tests/bench/validate_cost.py [--repeats 25]

Budget: validate costs at most twice the bare import of yaml, jsonschema, pluggy and click. Both
run in processes of their own, by turns, with byte code cached as an installed package has it; the
medians of their CPU times are compared.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SPEC = Path(__file__).parents[2] / "specs" / "quickstart.yaml"
BARE = ["-c", "import yaml, jsonschema, pluggy, click"]
MAIN = "import sys; from qatspec.cli.main import main; main(['validate', sys.argv[1]])"
VALIDATE = ["-c", MAIN, str(SPEC)]


def cpu_seconds(arguments: list[str], environment: dict[str, str]) -> float:
    """CPU time of one run in a process of its own, seconds."""
    before = os.times()
    command = [sys.executable, *arguments]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=environment)
    after = os.times()
    return (
        after.children_user + after.children_system
        - before.children_user - before.children_system
    )  # fmt: skip


def measure(repeats: int) -> tuple[float, float]:
    """Median CPU seconds of (the bare import, validate)."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = cache
        bare: list[float] = []
        validate: list[float] = []
        for _ in range(repeats + 1):
            bare.append(cpu_seconds(BARE, environment))
            validate.append(cpu_seconds(VALIDATE, environment))
    return statistics.median(bare[1:]), statistics.median(validate[1:])  # the first fills the cache


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=25)
    bare, validate = measure(parser.parse_args().repeats)
    print(f"bare import {bare:.3f} s, validate {validate:.3f} s: {validate / bare:.2f} times")
