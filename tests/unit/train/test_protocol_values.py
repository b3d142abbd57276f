"""Values without a real number in them, from plugins, are faults of the plugin."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from qatspec.api import Sample
from qatspec.diag import PluginFault
from qatspec.train.judging import judge
from qatspec.train.protocol import (
    check_sample,
    losses_of,
    metrics_of,
    predictions_of,
    target_tensor,
)
from qatspec.train.samples import tensors_of

_NO_NUMBERS = [torch.zeros((), device="meta"), torch.zeros(1).to_sparse()]


@pytest.mark.parametrize("value", [*_NO_NUMBERS, torch.zeros((), dtype=torch.complex64)])
def test_loss_without_a_real_value_is_refused(value: torch.Tensor) -> None:
    with pytest.raises(PluginFault, match="expected a scalar tensor"):
        losses_of(nn.Identity(), value.requires_grad_())


@pytest.mark.parametrize("value", _NO_NUMBERS)
def test_prediction_without_values_is_refused(value: torch.Tensor) -> None:
    with pytest.raises(PluginFault, match=r"a (meta|sparse) tensor"):
        predictions_of(nn.Identity(), [{"x": value}], 1)


def test_predictions_of_types_that_numpy_lacks_keep_their_values() -> None:
    values = [torch.tensor([1.5]).bfloat16(), torch.tensor([1 - 2j]).conj()]
    found = predictions_of(nn.Identity(), [{"x": value} for value in values], 2)
    assert found[0]["x"].dtype == np.float32
    assert found[0]["x"][0] == 1.5
    assert found[1]["x"][0] == 1 + 2j


@pytest.mark.parametrize(
    "value", [*_NO_NUMBERS[:1], 10**400, torch.tensor(1j), np.array("a"), np.array([None])]
)
def test_metric_that_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(PluginFault, match="expected a mapping of names to numbers"):
        metrics_of(nn.Identity(), None, {"ap": value})


@pytest.mark.parametrize(
    ("meta", "prediction", "message"),
    [
        ({"id": 1}, {}, "gives nothing for an image.* judges `boxes`, `scores`$"),
        ({"id": 1}, {"boxes": np.ones((2, 4))}, "gives `boxes` for an image.* judges `scores`$"),
        ({}, {}, "gives nothing as meta; its evaluate.* reads `id`, `size`$"),
    ],
)
def test_all_absent_keys_are_named(meta: Any, prediction: Any, message: str) -> None:
    class Judge:
        def evaluate(self, pairs: Any) -> None:
            for meta, prediction in pairs:
                if np.size(meta["id"]) == 0:
                    meta["size"].sum()
                prediction["boxes"].sum(), prediction["scores"].sum()
                raise RuntimeError("an error of numbers that are none")

    with pytest.raises(PluginFault) as caught:
        judge(Judge(), nn.Identity(), None, [(meta, prediction)])
    assert re.search(message, str(caught.value), re.MULTILINE)


@pytest.mark.parametrize("dtype", [">f4", "<f4"])
def test_images_of_any_byte_order_are_read(dtype: str) -> None:
    samples = [
        check_sample(nn.Identity(), Sample(np.full((3, 4, 4), n, dtype), {}, {})) for n in (1, 2.5)
    ]
    (batch,) = tensors_of(samples)
    assert batch.dtype == torch.float32
    assert batch[:, 0, 0, 0].tolist() == [1, 2.5]


@pytest.mark.parametrize(
    "value", [[[1], [1, 2]], np.zeros(2, np.longdouble), torch.zeros((), device="meta")]
)
def test_target_that_torch_cannot_hold_is_refused(value: Any) -> None:
    sample = Sample(np.zeros((3, 4, 4), np.float32), {"mask": value}, {})
    with pytest.raises(PluginFault, match="as target `mask`"):
        check_sample(nn.Identity(), sample)


def test_several_arrays_are_told_of_several_inputs():
    arrays = [np.zeros((3, 4, 4), np.float32), np.zeros(2, np.float32)]
    for image in (tuple(arrays), arrays, dict(zip(("rgb", "imu"), arrays, strict=True))):
        with pytest.raises(PluginFault, match=r"for several inputs, name .* in `model.inputs`"):
            check_sample(nn.Identity(), Sample(image, {}, {}))


@pytest.mark.parametrize(
    "value", [np.arange(6).reshape(2, 3)[::-1, ::-1], np.arange(3, dtype=">i8"), np.float32(2), 3]
)
def test_target_becomes_a_tensor_of_equal_values(value: Any) -> None:
    found = target_tensor(value)
    assert found.shape == np.shape(value)
    np.testing.assert_array_equal(found.numpy(), value)
