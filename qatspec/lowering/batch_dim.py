"""The dim of a tensor of the model that holds the batch.

The first dim of a Program's values is the batch. In the model it may be another dim:
`permute(1, 0, 2)` makes it dim 1, attention by `bmm` merges it with the heads, and
`view(l * n, c)` with the tokens. The value of such a tensor has the tensor's dims in their order,
except that the batch is moved to the front; what shares a dim with the batch stays in its place as
a dim of its own. A move of numbers across the batch is then an ordinary move within each image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qatspec.diag.codes import QS701
from qatspec.kinds import KINDS, Trait
from qatspec.lowering.operands import Unlowerable

KEEP_BATCH = (
    "keep the batch as the first dim here; where the example has a batch of one, give it two: they "
    "tell the batch from other dims of size 1"
)


class AcrossBatch(Unlowerable):
    """An op would mix images, or needs the batch in another dim; the message says how."""

    def __init__(self, reason: str) -> None:
        super().__init__(QS701, reason, KEEP_BATCH)


#: Number of dims at the end of a value along which a kind computes.
_TRAILING = {Trait.LAST_DIM: 1, Trait.LAST_TWO_DIMS: 2}


@dataclass(frozen=True, slots=True)
class BatchDim:
    """batch: the dim of the tensor that holds the batch. outer, inner: that dim is outer * batch *
    inner, in row-major order; each that is there is a dim of the value, in the batch's place.

    A tensor (L, N * h, d) of N images is a value (N, L, h, d): batch 1, inner.
    """

    batch: int = 0
    outer: bool = False
    inner: bool = False

    @property
    def is_first(self) -> bool:
        """Return whether the batch is a separate first dim, so that the dims of value and tensor
        agree."""
        return self == BATCH_FIRST

    @property
    def extra(self) -> int:
        """Dims of the value that share a dim of the tensor with the batch."""
        return self.outer + self.inner

    def shared(self, value: Sequence[int]) -> tuple[int, ...]:
        """Sizes of those dims; value: its shape without the batch."""
        return tuple(value[self.batch : self.batch + self.extra])

    def rank(self, value: Sequence[int]) -> int:
        """Dims of the tensor."""
        return len(value) + 1 - self.extra

    def axis(self, dim: int) -> int:
        """The value's axis (counted with the batch) of a dim of the tensor. Raises AcrossBatch."""
        if dim == self.batch:
            raise AcrossBatch(f"it computes along dim {dim}, which holds the batch")
        return dim + 1 if dim < self.batch else dim + self.extra

    def dim(self, axis: int) -> int | None:
        """Return the dim of the tensor for an axis of the value; None where it shares the dim with
        the batch."""
        if axis <= self.batch:
            return axis - 1
        return axis - self.extra if axis > self.batch + self.extra else None

    def in_front(self, x: Tensor, shared: Sequence[int]) -> Tensor:
        """Return a real tensor with the dims of the value: the batch first, and dims of sizes
        `shared` where it was."""
        at, rest = self.batch, x.shape[self.batch + 1 :]
        outer, inner = (shared[0] if self.outer else 1), (shared[-1] if self.inner else 1)
        split = x.reshape(*x.shape[:at], outer, -1, inner, *rest).movedim(at + 1, 0)
        return split.reshape(split.shape[0], *x.shape[:at], *shared, *rest)

    def without(self, dims: Sequence[int]) -> BatchDim:
        """The dim of the tensor that lacks `dims`."""
        return BatchDim(self.batch - sum(d < self.batch for d in dims), self.outer, self.inner)

    def reshaped(
        self, value: Sequence[int], before: Sequence[int], after: Sequence[int]
    ) -> tuple[BatchDim, tuple[int, ...]]:
        """(dim, shape of the value) of a tensor of shape `before`, with a value of shape
        `value`, that becomes `after`. Raises AcrossBatch where images would be torn apart.

        In an example batch of one the batch could be any dim of size 1, or a factor of any dim:
        it stays a dim of its own if it can, and merges with what is behind it rather than with
        what is before it, but not within the last dim.
        """
        shared = self.shared(value)
        images = before[self.batch] // prod(shared)
        front = prod(before[: self.batch]) * (shared[0] if self.outer else 1)
        candidates = []
        for at, size in enumerate(after):
            outer, torn = divmod(front, prod(after[:at]))
            inner, rest = divmod(size, max(outer, 1) * images)
            if torn or rest:
                continue
            dim = BatchDim(at, outer > 1, inner > 1)
            split_sizes = tuple(s for s in (outer, inner) if s > 1)
            shape = (*after[:at], *split_sizes, *after[at + 1 :])
            worse = at == len(after) - 1 if split_sizes else at != self.batch
            candidates.append(((bool(split_sizes), worse, outer > 1, at), dim, shape))
        if not candidates:
            raise AcrossBatch("it moves numbers from image to image")
        _, dim, shape = min(candidates, key=lambda candidate: candidate[0])
        return dim, shape

    def one_image(
        self, constant: Tensor, shape: Sequence[int], shared: Sequence[int]
    ) -> np.ndarray:
        """One image's part of a constant, in the shape of a value, which a tensor of `shape` is
        computed with. Raises Unlowerable where the images have different ones."""
        rows = constant.to(torch.float64)
        rows = rows.reshape((1,) * (len(shape) - rows.ndim) + rows.shape)
        if rows.shape[self.batch] == 1:
            rows = rows.repeat_interleave(prod(shared), self.batch)
        if rows.shape[self.batch] % prod(shared):
            reason = f"it joins {tuple(constant.shape)} and {tuple(shape)}"
            raise Unlowerable(QS701, reason, "give both the same dims")
        images = self.in_front(rows, shared)
        if not (images == images[:1]).all():
            reason = "it reads a constant that differs along the batch"
            raise Unlowerable(QS701, reason, "make it of one image")
        part: np.ndarray = images[0].numpy()
        return part

    def permuted(self, perm: Sequence[int]) -> tuple[BatchDim, tuple[int, ...]]:
        """(dim, permutation of the value) of the tensor whose dims are `perm` of this one's."""
        at = tuple(perm).index(self.batch)
        trailing = range(self.batch + 1, self.batch + 1 + self.extra)
        front, back = ([self.axis(d) for d in part] for part in (perm[:at], perm[at + 1 :]))
        return BatchDim(at, self.outer, self.inner), (0, *front, *trailing, *back)

    def placed(
        self, kind: str, attrs: Mapping[str, Any], value: Sequence[int]
    ) -> tuple[BatchDim, dict[str, Any]]:
        """(dim of its result, attributes of the op on the value) of an op whose attributes
        count the tensor's dims. Raises AcrossBatch."""
        changed, traits = dict(attrs), KINDS[kind].traits
        if Trait.IMAGES in traits:
            raise AcrossBatch("it takes pictures, and its operand's batch is no dim of its own")
        if self.batch >= self.rank(value) - max((_TRAILING.get(t, 0) for t in traits), default=0):
            raise AcrossBatch(f"it computes along dim {self.batch}, which holds the batch")
        if "shape" in attrs:
            if self.batch:
                raise AcrossBatch(f"it takes the batch for dim 0, and it is dim {self.batch}")
            changed["shape"] = (*self.shared(value), *attrs["shape"])
            if prod(changed["shape"]) != prod(value):
                raise AcrossBatch("it goes by dims that its operand shares with the batch")
        if "perm" in attrs:
            dim, changed["perm"] = self.permuted(attrs["perm"])
            return dim, changed
        if "axis" in attrs:
            changed["axis"] = self.axis(attrs["axis"])
        if "axes" in attrs:
            changed["axes"] = tuple(self.axis(d) for d in attrs["axes"])
        if attrs.get("keepdim") is False:
            return self.without(attrs["axes"] if "axes" in attrs else (attrs["axis"],)), changed
        return self, changed


BATCH_FIRST = BatchDim()
