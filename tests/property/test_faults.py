"""A short form of tests/bench/faults.py: one point of each kind of fault, in a process of its own
because it forks."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench" / "faults.py"
#: Each second one without `--full`.
CASES = ("torn", "crash", "full-disk", "io-error", "edit", "two-runs", "damaged", "finished")


@pytest.mark.slow
def test_every_fault_ends_with_the_bytes_of_an_undisturbed_run(request):
    cases = CASES if request.config.getoption("full") else CASES[::2]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", BENCH, *cases, "--points", "1", "--seed", "5"],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    for case in cases:
        assert f"{case:12}    1 points    0 wrong" in done.stdout
