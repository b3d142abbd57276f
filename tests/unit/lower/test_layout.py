"""Where the batch is: every move of a real tensor is a move within each image of its value."""

from __future__ import annotations

import random
from math import prod

import numpy as np
import pytest

from qatspec.lowering.batch_dim import BATCH_FIRST, AcrossBatch, BatchDim


def moves(rng: random.Random, shape: list[int]) -> list[int] | None:
    """Merge two neighbours, or split a dim in two."""
    at = rng.randrange(len(shape))
    if rng.random() < 0.5 and at + 1 < len(shape):
        return [*shape[:at], shape[at] * shape[at + 1], *shape[at + 2 :]]
    factors = [f for f in range(2, shape[at]) if shape[at] % f == 0]
    if not factors or len(shape) > 5:
        return None
    factor = rng.choice(factors)
    return [*shape[:at], factor, shape[at] // factor, *shape[at + 1 :]]


@pytest.mark.parametrize("seed", range(12))
def test_chains_of_moves(seed):
    """A value that is moved beside a tensor of 5 images holds each image's numbers in the order in
    which the tensor has them."""
    rng, batch, taken = random.Random(seed), 5, 0
    shape = [batch, 4, 6, 2]
    x = np.arange(prod(shape)).reshape(shape)
    layout, value = BATCH_FIRST, x
    for _ in range(12):
        if rng.random() < 0.5:
            perm = rng.sample(range(x.ndim), x.ndim)
            layout, order = layout.permuted(perm)
            x, value = x.transpose(perm), value.transpose(order)
        else:
            after = moves(rng, list(x.shape))
            if after is None:
                continue
            try:
                layout, inner = layout.reshaped(value.shape[1:], x.shape, after)
            except AcrossBatch:
                continue
            x, value = x.reshape(after), value.reshape(-1, *inner)
        taken += 1
        assert value.shape[0] == batch
        for image, own in enumerate(value):
            assert np.array_equal(own.ravel(), [n for n in x.ravel() if n // 48 == image])
        for dim in range(x.ndim):
            if dim != layout.batch:
                assert layout.dim(layout.axis(dim)) == dim
                assert value.shape[layout.axis(dim)] == x.shape[dim]
    assert taken > 3


def test_a_batch_that_is_torn_apart():
    with pytest.raises(AcrossBatch, match="from image to image"):
        BATCH_FIRST.reshaped((5, 2), (3, 5, 2), (5, 6))
    with pytest.raises(AcrossBatch, match="dim 1, which holds the batch"):
        BatchDim(1).axis(1)


@pytest.mark.parametrize(
    ("before", "after"),
    [((1, 6, 4), (2, 3, 4)), ((1, 6, 4), (6, 4)), ((1, 6, 4), (1, 24)), ((1, 6, 4), (1, 1, 6, 4))],
)
def test_one_image_is_moved_as_two_are(before, after):
    """An example batch of one gives the same value as one of two."""
    _, one = BATCH_FIRST.reshaped(before[1:], before, after)
    _, two = BATCH_FIRST.reshaped(before[1:], (2, *before[1:]), (2 * after[0], *after[1:]))
    assert one == two


def test_attributes_count_the_dims_of_the_tensor():
    heads = BatchDim(0, inner=True)  # (N * 2, 5, 4) as (N, 2, 5, 4)
    assert heads.placed("reduce_sum", {"axes": (2,), "keepdim": True}, (2, 5, 4)) == (
        heads, {"axes": (3,), "keepdim": True},
    )  # fmt: skip
    tokens = BatchDim(1)  # (5, N, 4) as (N, 5, 4)
    layout, attrs = tokens.placed("argmax", {"axis": 0, "keepdim": False}, (5, 4))
    assert (layout, attrs["axis"]) == (BATCH_FIRST, 1)
    for kind, of, attrs in (
        ("conv", heads, {}), ("linear", BatchDim(1), {}), ("matmul", BatchDim(0), {}),
        ("reshape", tokens, {"shape": (4, 5)}), ("concat", tokens, {"axis": 1}),
    ):  # fmt: skip
        with pytest.raises(AcrossBatch):
            of.placed(kind, attrs, (4,) if kind in ("linear", "matmul") else (5, 4))
