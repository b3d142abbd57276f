"""Maps to points: every cell of every map is a point of the picture that may hold an object.

The points of all maps form one row of length A, finest map first, row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

#: Class logits, four numbers of a box, and a quality logit: a list of maps (N, C, H_i, W_i) each,
#: finest first.
Outputs = tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]
#: (raw (N, A, 4), xy (A, 2), stride (A, 1)) -> boxes (N, A, 4): the meaning of the four numbers.
ToBoxes = Callable[[Tensor, Tensor, Tensor], Tensor]


class Points(NamedTuple):
    """The outputs of a head at each point.

    logits   (N, A, num_classes)
    boxes    (N, A, 4) xyxy in input pixels
    quality  (N, A) logits of how well the point sees an object: centerness or objectness
    xy       (A, 2) centres of the cells in input pixels
    stride   (A,)
    """

    logits: Tensor
    boxes: Tensor
    quality: Tensor
    xy: Tensor
    stride: Tensor

    def images(self, start: int, end: int) -> Points:
        """The points of images start..end of the batch."""
        logits, boxes, quality = (
            self.logits[start:end],
            self.boxes[start:end],
            self.quality[start:end],
        )
        return Points(logits, boxes, quality, self.xy, self.stride)


def gather_points(outputs: Outputs, strides: Sequence[int], to_boxes: ToBoxes) -> Points:
    """Convert the raw outputs of a head to Points."""
    classes, raw, quality = outputs
    grids = [_grid(m, s) for m, s in zip(classes, strides, strict=True)]
    xy = torch.cat(grids)
    stride = torch.cat(
        [grid.new_full((len(grid),), s) for grid, s in zip(grids, strides, strict=True)]
    )
    boxes = to_boxes(_rows(raw), xy, stride[:, None])
    return Points(_rows(classes), boxes, _rows(quality).squeeze(-1), xy, stride)


def _grid(feature: Tensor, stride: int) -> Tensor:
    """Centres of a map's cells, (H * W, 2) as x, y."""
    height, width = feature.shape[-2:]
    y = (torch.arange(height, device=feature.device, dtype=torch.float32) + 0.5) * stride
    x = (torch.arange(width, device=feature.device, dtype=torch.float32) + 0.5) * stride
    return torch.stack([x.repeat(height), y.repeat_interleave(width)], dim=1)


def _rows(maps: Sequence[Tensor]) -> Tensor:
    """Maps (N, C, H_i, W_i) -> (N, A, C)."""
    return torch.cat([m.flatten(2).transpose(1, 2) for m in maps], dim=1)
