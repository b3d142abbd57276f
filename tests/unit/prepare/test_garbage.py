"""The search for cyclic garbage is paused in `prepare`, and in `prepare` alone."""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from qatspec.diag import DiagnosticError
from qatspec.prepare import prepare
from qatspec.prepare.copying import copied


class Watching(nn.Module):
    """Notes whether garbage is collected while forward is traced. fails: raise there."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.fails = fails

    def forward(self, x: Tensor) -> Tensor:
        COLLECTED.append(gc.isenabled())
        if self.fails:
            raise ValueError("as asked")
        return self.conv(x)


COLLECTED: list[bool] = []


@pytest.fixture(autouse=True)
def _collector() -> Iterator[None]:
    COLLECTED.clear()
    yield
    gc.enable()


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("fails", [False, True])
def test_garbage_waits_until_prepare_ends(enabled: bool, fails: bool) -> None:
    (gc.enable if enabled else gc.disable)()
    arguments = Watching(fails), (torch.zeros(2, 3, 4, 4),)
    if fails:
        with pytest.raises(DiagnosticError, match="as asked"):
            prepare(*arguments, qconfig="horizon_qat")
    else:
        prepare(*arguments, qconfig="horizon_qat")
    assert COLLECTED and not any(COLLECTED)
    assert gc.isenabled() is enabled


def test_copied_modules_have_tables_of_hooks_of_their_own() -> None:
    class Table(OrderedDict):
        """A table of a user, whose copy has this class."""

    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    model[0].names = Table()
    model[1].shared = model[0].shared = OrderedDict()
    made = copied(model)
    tables: list[object] = []
    for before, after in zip(model.modules(), made.modules(), strict=True):
        for name, table in vars(before).items():
            if isinstance(table, dict):
                assert vars(after)[name] is not table and type(vars(after)[name]) is type(table)
                tables.append(vars(after)[name])
    assert len({id(table) for table in tables}) == len(tables) - 1, "`shared` is one table"
    assert made[0].shared is made[1].shared
    made[0].register_forward_hook(lambda *_: None)
    assert not made[1]._forward_hooks and not model[0]._forward_hooks
