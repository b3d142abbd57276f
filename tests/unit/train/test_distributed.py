from __future__ import annotations

import subprocess
import sys
import textwrap

SCRIPT = textwrap.dedent(
    """
    import sys
    import torch
    from torch import nn
    from qatspec.diag import Diagnostic, DiagnosticError
    from qatspec.train.distributed import launch

    def step(group, mode):
        torch.manual_seed(group.rank)  # different weights: wrapping gives all rank 0's
        net = nn.Linear(2, 1, bias=False)
        x = torch.tensor([[1.0, 2.0], [3.0, 5.0]])[group.rank].reshape(1, 2)
        if mode == "fault" and group.rank == 1:
            raise DiagnosticError(Diagnostic(code="QS901", message="rank 1 met this"))
        if mode == "crash" and group.rank == 1:
            import os
            os._exit(7)
        wrapped = group.wrap(net)
        wrapped(x).sum().backward()
        mean = group.mean(torch.tensor([float(group.rank)]))
        return net.weight.grad.tolist(), mean.tolist(), group.share(f"from {group.rank}")

    if __name__ == "__main__":
        try:
            print(launch(2, "cpu", step, sys.argv[1]))
        except DiagnosticError as error:
            print(error.diagnostics[0].code, error.diagnostics[0].message)
    """
)


def run(tmp_path, mode: str) -> str:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    result = subprocess.run(
        [sys.executable, str(script), mode],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_gradients_are_averaged_over_two_processes(tmp_path):
    # d/dw of w.x is x; the mean of (1, 2) and (3, 5) is (2, 3.5)
    assert run(tmp_path, "work") == "([[2.0, 3.5]], [0.5], 'from 0')"


def test_another_process_fault_reaches_the_caller(tmp_path):
    assert run(tmp_path, "fault") == "QS901 rank 1 met this"


def test_a_process_that_dies_is_reported(tmp_path):
    assert run(tmp_path, "crash") == "QS908 a training process died (exit codes: rank 1: 7)"
