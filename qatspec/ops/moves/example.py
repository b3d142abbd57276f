"""Examples of the ops, and the same functions in float64."""

from __future__ import annotations

import torch

from qatspec.ops.examples import function
from qatspec.types import Example


def examples() -> tuple[Example, ...]:
    """Of ops with several results the last one."""
    return (
        function(
            "reshape",
            lambda x: x.reshape(x.shape[0], 16, 16),
            lambda x: x.reshape(-1, 16, 16),
        ),
        function("flatten", lambda x: x.flatten(1), lambda x: x.reshape(-1, 256)),
        function("squeeze", lambda x: x[:, 0:1].squeeze(1), lambda x: x[:, 0]),
        function("unsqueeze", lambda x: x.unsqueeze(2), lambda x: x[:, :, None]),
        function("permute", lambda x: x.permute(0, 3, 1, 2), lambda x: x.transpose(0, 3, 1, 2)),
        function("transpose", lambda x: x.transpose(1, 3), lambda x: x.swapaxes(1, 3)),
        function("getitem", lambda x: x[:, 1:, ::2, -3], lambda x: x[:, 1:, ::2, -3]),
        function("chunk", lambda x: torch.chunk(x, 2, 1)[1], lambda x: x[:, 2:]),
        function("split", lambda x: torch.split(x, [1, 3], 1)[1], lambda x: x[:, 1:]),
        function("unbind", lambda x: x.unbind(1)[3], lambda x: x[:, 3]),
        function(
            "expand",
            lambda x: x[:, :, :1].expand(-1, -1, 5, -1),
            lambda x: x[:, :, :1].repeat(5, 2),
        ),
    )
