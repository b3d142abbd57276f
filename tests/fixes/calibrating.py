"""QS610, QS614 and QS615: what a calibration saw."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from qatspec.diag import Diagnostic
from qatspec.prepare import prepare, set_stage
from tests.fixes.following import Net, X, each, told


def _plain(m: Any, x: Tensor) -> Tensor:
    return x


def _calibrated_on(*batches: Tensor, model: nn.Module | None = None) -> list[Diagnostic]:
    def act() -> Any:
        net = (model or Net(_plain)).eval()
        prepared = prepare(net, (X,), qconfig="horizon_calibration")
        for batch in batches:
            set_stage(prepared, "calibration")
            prepared.model(batch)
        set_stage(prepared, "eval")
        return prepared.warnings

    return told(act)


CASES = each(
    "QS610",
    (
        'calibrate again after `set_stage(prepared, "calibration")`',
        lambda: _calibrated_on(X * math.inf),
        lambda: _calibrated_on(X * math.inf, X),
    ),
)


CASES += each(
    "QS614",
    (
        "look at the calibration data",
        lambda: _calibrated_on(X * 0),
        lambda: _calibrated_on(X * 0, X),
    ),
)


def _with_norm(*, trained: bool) -> nn.Module:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    if trained:
        net(X)
    return net


CASES += each(
    "QS615",
    (
        "run the model in train mode on data",
        lambda: _calibrated_on(X, model=_with_norm(trained=False)),
        lambda: _calibrated_on(X, model=_with_norm(trained=True)),
    ),
)
