"""A dry run of tests/bench/gpu.py on the CPU: the script that is run where a GPU can be had."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench" / "gpu.py"


def script(project, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCH), *arguments], cwd=project.folder, text=True,
        capture_output=True, check=False, timeout=600, env=project.environment(),
    )  # fmt: skip


@pytest.mark.slow
def test_two_runs_on_the_cpu_give_the_same_bytes(project):
    toy = ("--device", "cpu", "--spec", "toy.yaml", "--allow-code")
    done = script(project, *toy, "--only", "same_bytes")
    assert done.returncode == 0, done.stderr
    assert " files, accuracy: float" in done.stdout and "FAILED" not in done.stdout
    assert "step of qat" in done.stdout and "of float, data" in done.stdout


def test_without_a_gpu_it_says_so(project, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = script(project)
    assert done.returncode == 2
    assert "torch finds no GPU; --device cpu is a dry run" in done.stderr
