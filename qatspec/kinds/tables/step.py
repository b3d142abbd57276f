"""The executor's steps of tables."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from qatspec.ir import RANGE, Op
from qatspec.kinds import loops
from qatspec.kinds.exact import BYTES, ExactDtypes, Step
from qatspec.kinds.tables.segments import entries


def lut(exact: ExactDtypes, op: Op) -> Step:
    table, lowest = _table(exact, op), RANGE[exact.dtype(op.inputs[0])][0]
    if exact.holder(op.inputs[0]) not in BYTES or table.dtype not in BYTES or len(table) != 256:
        return lambda x: looked_up(table, x.to(torch.int32) - lowest)
    by_byte = table.roll(lowest)  # by the byte of x as an unsigned number
    numbers = (by_byte.numpy(),)
    every_pair = torch.arange(1 << 16, dtype=torch.int32).to(torch.uint16).view(torch.uint8)
    pairs = by_byte[every_pair.long()].view(torch.int16)

    def in_pairs(x: Tensor) -> Tensor:
        inner = innermost(x)
        x = x.movedim(inner, -1)
        if loops.pays(x):
            one = x.contiguous().view(torch.uint8)
            return loops.over_rows(loops.look_up, [one], numbers, table.dtype).movedim(-1, inner)
        flat = x.reshape(-1).contiguous()  # of a part, it may be a view with steps
        if flat.numel() % 2 or flat.storage_offset() % 2:
            taken = by_byte.index_select(0, flat.view(torch.uint8).to(torch.int32))
        else:
            taken = pairs.index_select(0, flat.view(torch.uint16).to(torch.int32)).view(table.dtype)
        return taken.view(x.shape).movedim(-1, inner)

    return in_pairs


def exp_below_max(exact: ExactDtypes, op: Op) -> Step:
    axis, table = op.attrs["axis"], _table(exact, op)

    def step(x: Tensor) -> Tensor:
        x = x.to(torch.int32)
        return looked_up(table, x.amax(axis, keepdim=True) - x)

    return step


def _table(exact: ExactDtypes, op: Op) -> Tensor:
    """An entry for every integer, in the dtype of the result."""
    every = entries(op, lambda op, i: exact.array(op.inputs[i]))
    return torch.from_numpy(np.ascontiguousarray(every)).to(exact.holder(op.output))


def looked_up(table: Tensor, index: Tensor) -> Tensor:
    """table[index], in the order in which `index` lies in memory; a third of the time that indexing
    takes."""
    inner = innermost(index)
    index = index.movedim(inner, -1)
    return table.index_select(0, index.reshape(-1)).view(index.shape).movedim(-1, inner)


def innermost(x: Tensor) -> int:
    """The dim that is innermost in memory, of tensors as images or in order."""
    return 1 if x.ndim == 4 and not x.is_contiguous() else -1
