"""Pictures that travel as bytes: the model's numbers are those of normalised pictures, bit by
bit."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image
from torch import Tensor, nn

from qatspec.api import ModelInput, Pixels, PixelSample
from qatspec.diag import PluginFault
from qatspec.spec import InputSpec, TensorSpec
from qatspec.train.byte_images import ByteImages
from qatspec.train.loader import Loader
from qatspec.train.protocol import check_sample
from qatspec.train.samples import tensors_of
from qatspec.types import Sample

LEVELS = st.floats(0, 255, width=32)
DEVIATIONS = st.floats(2**-10, 255, width=32)


@settings(deadline=None, max_examples=60)
@given(st.data(), st.sampled_from(["rgb", "bgr", "gray", "yuv444"]), st.integers(0, 2**32 - 1))
def test_numbers_are_those_of_normalised_pictures(data: Any, form: Any, seed: int) -> None:
    channels = 1 if form == "gray" else 3
    mean, std = (
        data.draw(st.one_of(level, st.tuples(*[level] * channels)))
        for level in (LEVELS, DEVIATIONS)
    )
    image = ModelInput(size=(5, 7), format=form, mean=mean, std=std)
    rng = np.random.default_rng(seed)
    pictures = [Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8)) for _ in range(3)]
    images = ByteImages.of([image.pixels(one) for one in pictures])
    assert images is not None and images.values.dtype == torch.uint8
    made = images.normalized()
    assert made.dtype == torch.float32 and made.is_contiguous()
    assert made.numpy().tobytes() == np.stack([image.normalize(p) for p in pictures]).tobytes()
    # the definition, computed with the channels behind
    said = [np.asarray(v, np.float32) for v in (mean, std)]
    planes = images.values.permute(0, 2, 3, 1).numpy().astype(np.float32)
    reference = (planes - said[0]) / said[1]
    assert made.permute(0, 2, 3, 1).contiguous().numpy().tobytes() == reference.tobytes()


class Bytes:
    """Random pictures of two classes as bytes. as_sample: as normalised pictures."""

    classes = ("dark", "bright")

    def __init__(self, as_sample: bool = False, std: tuple[float, ...] = (50.0,)) -> None:
        self.as_sample, self.stds = as_sample, std

    def __len__(self) -> int:
        return 10

    def sample(self, index: int, rng: np.random.Generator) -> Sample | PixelSample:
        pixels = Pixels(
            rng.integers(0, 256, (1, 4, 4), np.uint8), 100.0, self.stds[index % len(self.stds)]
        )
        made = PixelSample(pixels, {"label": np.array(index % 2)}, {"id": index})
        return Sample(made.image, made.target, made.meta) if self.as_sample else made

    def evaluate(self, predictions: Any) -> dict[str, float]:
        return {"accuracy": 0.0}


def test_a_loader_moves_bytes_and_gives_the_same_batches() -> None:
    loaders = [Loader(Bytes(as_sample), 3, seed=4) for as_sample in (False, True)]
    assert all(loader.epoch_steps == 3 for loader in loaders)
    for mine, other in zip(*(loader.shuffled(1) for loader in loaders), strict=True):
        (travelling,) = mine.loaded
        assert isinstance(travelling, ByteImages) and travelling.values.dtype == torch.uint8
        moved = mine.to(torch.device("cpu"))
        assert isinstance(moved.loaded[0], Tensor), "normalised where it arrives"
        for one in (mine, moved):
            assert torch.equal(one.inputs[0], other.inputs[0])


@pytest.mark.parametrize("mixed", ["deviations", "samples"])
def test_pictures_of_one_batch_that_are_normalised_in_several_ways(mixed: str) -> None:
    data = Bytes(std=(50.0, 25.0) if mixed == "deviations" else (50.0,))
    samples = [data.sample(i, np.random.default_rng(i)) for i in range(4)]
    images = [one.image for one in samples]
    if mixed == "samples":
        samples[2] = Sample(samples[2].image, {}, {})
    (batch,) = tensors_of(samples)
    assert isinstance(batch, Tensor) and np.array_equal(batch.numpy(), np.stack(images))


def test_bytes_beside_other_inputs() -> None:
    inputs = {"left": InputSpec(size=(4, 4)), "speed": TensorSpec(shape=(2,))}
    pixels = Pixels(np.full((3, 4, 4), 7, np.uint8), (1.0, 2.0, 3.0), 2.0)
    sample = PixelSample({"left": pixels, "speed": np.ones(2, np.float32)}, {})
    assert sample.image["left"][:, 0, 0].tolist() == [3.0, 2.5, 2.0]
    left, speed = tensors_of([check_sample(nn.Identity(), sample, None, inputs)] * 2, inputs)
    assert isinstance(left, ByteImages) and left.normalized().shape == (2, 3, 4, 4)
    assert isinstance(speed, Tensor) and speed.shape == (2, 2)


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (Pixels(np.zeros((3, 4, 4), np.float32), 0.0, 1.0), "(3, 4, 4) of float32"),
        (Pixels(np.zeros((4, 4), np.uint8), 0.0, 1.0), "(4, 4) of uint8"),
        (Pixels(np.zeros((3, 4, 4), np.uint8), (0.0, 1.0), 1.0), "mean (0.0, 1.0) and std 1.0"),
        (Pixels(np.zeros((3, 4, 4), np.uint8), "x", 1.0), "mean x"),
        (Pixels(np.zeros((3, 4, 4), np.uint8), 0.0, 0.0), "std 0.0"),
        (Pixels(np.zeros((3, 4, 4), np.uint8), math.nan, 1.0), "mean nan"),
        (np.zeros((3, 4, 4), np.uint8), "an array (3, 4, 4) of uint8"),
    ],
)
def test_bytes_that_are_no_picture_are_refused(pixels: Any, said: str) -> None:
    with pytest.raises(PluginFault, match=f"returned an image that is.*{re.escape(said)}"):
        check_sample(nn.Identity(), PixelSample(pixels, {}))
