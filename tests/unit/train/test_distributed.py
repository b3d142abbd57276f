"""Processes that a launcher started: torch's own, as `qatspec run --nproc` uses it."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import torch
import torch.distributed as dist
from torch import nn

from qatspec.train.distributed import Processes

SCRIPT = textwrap.dedent(
    """
    import sys
    import torch
    from torch import nn
    from qatspec.diag import DiagnosticError
    from qatspec.diag.codes import QS901
    from qatspec.process.interrupt import deferred, handled
    from qatspec.train.distributed import LostProcessError, ranks

    class Halves(nn.Module):
        def __init__(self):
            super().__init__()
            self.always, self.at_times = (nn.Linear(2, 1, bias=False) for _ in range(2))

        def forward(self, x, both):
            return self.always(x) + self.at_times(x) if both else self.always(x)

    def gradients(group, x):
        halves = Halves()
        wrapped = group.wrap(halves)
        for both in (True, group.rank == 0):  # the first step uses all
            halves.zero_grad()
            wrapped(x, both).sum().backward()
        return [p.grad.tolist() for p in halves.parameters()]

    def step(group, mode, report):
        torch.manual_seed(group.rank)  # different weights: wrapping gives all rank 0's
        net = nn.Linear(2, 1, bias=False)
        x = torch.tensor([[1.0, 2.0], [3.0, 5.0]])[group.rank].reshape(1, 2)
        if mode == "fault" and group.rank == 1:
            raise QS901.error("rank 1 met this")
        if mode == "crash" and group.rank == 1:
            import os
            os._exit(7)
        wrapped = group.wrap(net)
        wrapped(x).sum().backward()
        mean = group.mean(torch.tensor([float(group.rank)]))
        told = group.share(f"from {group.rank}")
        return net.weight.grad.tolist(), gradients(group, x), mean.tolist(), told

    if __name__ == "__main__":
        with handled(), deferred(), ranks("cpu") as met:  # the launcher stops rank 0 then
            if not met.is_main:
                sys.exit(met.serve())
            try:
                print(met.together(step, sys.argv[1], report=print), flush=True)
            except DiagnosticError as error:
                print(error.diagnostics[0].code, error.diagnostics[0].message, flush=True)
                print(error.diagnostics[0].notes[0].text, flush=True)
            except LostProcessError as error:
                print(error, flush=True)
    """
)


def run(tmp_path, script: str, *arguments: str, timeout: int = 120) -> str:
    """What rank 0 of two processes prints."""
    path = tmp_path / "script.py"
    path.write_text(script)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    result = subprocess.run(
        [sys.executable, *launcher, str(path), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert result.stdout, result.stderr
    return result.stdout.strip()


def test_gradients_are_averaged_over_two_processes(tmp_path):
    # d/dw of w.x is x; the mean of (1, 2) and (3, 5) is (2, 3.5). What rank 1 does not use in a
    # later step than the first has the mean of (1, 2) and 0 (ADR 0130).
    expected = "([[2.0, 3.5]], [[[2.0, 3.5]], [[0.5, 1.0]]], [0.5], 'from 0')"
    assert run(tmp_path, SCRIPT, "work") == expected


def test_another_process_fault_reaches_the_caller(tmp_path):
    code, where = run(tmp_path, SCRIPT, "fault").splitlines()
    assert code == "QS901 rank 1 met this"
    assert where == "in the training process of rank 1"


def test_a_process_that_dies_is_reported(tmp_path):
    assert run(tmp_path, SCRIPT, "crash") == "another process of this training ended"


QUANTIZED = textwrap.dedent(
    """
    import torch
    import torch.distributed as dist
    from torch import nn
    from qatspec.prepare import prepare, set_stage
    from qatspec.train.distributed import ranks
    from qatspec.types import QConfig, QSpec

    def train(group, fake_quant, observer):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
        config = QConfig(
            activation=QSpec(fake_quant=fake_quant, observer=observer),
            weight=QSpec(fake_quant=fake_quant, ch_axis=0),
        )
        prepared = prepare(net, (torch.zeros(1, 3, 8, 8),), qconfig=config)
        set_stage(prepared, "qat")
        model = prepared.model
        wrapped = group.wrap(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        picked = torch.Generator().manual_seed(group.rank)
        for _ in range(3):  # rank 1 sees larger numbers
            optimizer.zero_grad()
            x = torch.randn(2, 3, 8, 8, generator=picked) * (1 + 9 * group.rank)
            wrapped(x).square().mean().backward()
            optimizer.step()
        state = {
            key: value.tolist() for key, value in model.state_dict().items()
            if "running_" not in key and "num_batches" not in key  # DDP takes rank 0's
        }
        both = [None] * group.world
        dist.all_gather_object(both, state)
        apart = [key for key in state if both[0][key] != both[1][key]]
        wide = [key for key in state if "input" in key and key.endswith("0.scale")]
        return apart, len(wide), [state[key][0] * 127.5 > 5 for key in wide]

    def all_kinds(group, report):
        for kind in ("moving", "lsq", "pact"):
            for observer in ("moving_average", "min_max", "percentile"):
                result = train(group, kind, observer)
                if group.is_main:
                    print(kind, observer, *result)

    if __name__ == "__main__":
        with ranks("cpu") as met:
            if met.is_main:
                met.together(all_kinds, report=print)
            else:
                met.serve()
    """
)


def test_every_process_rounds_alike(tmp_path):
    """Scales and observers of all processes are equal, and know what rank 1 alone has seen."""
    lines = run(tmp_path, QUANTIZED, timeout=300).splitlines()
    assert len(lines) == 9
    assert [line for line in lines if not line.endswith(" [] 1 [True]")] == []


class Branches(nn.Module):
    """A net in which the input decides which layer is used; a third one is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2, 1) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers[int(x.sum() > 0)](x)


def test_batches_may_use_different_parameters():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        net = Branches()
        wrapped = Processes(rank=0, world=2).wrap(net)
        for sign, used in ((1.0, 1), (-1.0, 0), (1.0, 1)):
            net.zero_grad()
            wrapped(torch.full((1, 2), sign)).sum().backward()
            gradients = [layer.weight.grad is not None for layer in net.layers]
            assert gradients == [number == used for number in range(3)]
    finally:
        dist.destroy_process_group()
