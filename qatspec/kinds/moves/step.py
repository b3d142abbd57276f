"""The executor's steps of moves."""

from __future__ import annotations

import torch

from qatspec.ir import Op
from qatspec.kinds.exact import ExactDtypes, Step, padded


def concat(exact: ExactDtypes, op: Op) -> Step:
    axis, dtype = op.attrs["axis"], exact.holder(op.output)
    return lambda *xs: torch.cat([x.to(dtype) for x in xs], axis)


def reshape(exact: ExactDtypes, op: Op) -> Step:
    shape = tuple(op.attrs["shape"])
    return lambda x: x.reshape(x.shape[0], *shape)


def transpose(exact: ExactDtypes, op: Op) -> Step:
    perm = tuple(op.attrs["perm"])
    return lambda x: x.permute(perm)


def slice_(exact: ExactDtypes, op: Op) -> Step:
    a = op.attrs
    at = (slice(None),) * a["axis"] + (slice(a["start"], a["stop"], a["step"]),)
    return lambda x: x[at]


def pad(exact: ExactDtypes, op: Op) -> Step:
    return lambda x: padded(x, op.attrs["padding"], op.attrs["value"])
