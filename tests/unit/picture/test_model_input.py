"""Pictures as the model takes them: channels, normalisation, placement, and the way back."""

import numpy as np
import pytest
from PIL import Image

from qatspec.picture import ModelInput, restore_boxes, restore_mask
from qatspec.picture.model_input import MODES

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
RNG = np.random.default_rng(0)


def saved(tmp_path, height, width):
    pixels = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    return path, pixels


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize(("mean", "std"), [(128.0, 128.0), (MEAN, STD)])
def test_each_channel_has_its_own_mean_and_std(tmp_path, order, mean, std):
    path, pixels = saved(tmp_path, 6, 8)
    image, _ = ModelInput(size=(6, 8), format=order, mean=mean, std=std).read(path)
    turned = pixels if order == "rgb" else pixels[..., ::-1]
    wanted = ((turned - np.float64(mean)) / np.float64(std)).transpose(2, 0, 1)
    assert image.dtype == np.float32 and image.flags.c_contiguous
    np.testing.assert_allclose(image, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("order", "mean", "slack"),
    [
        ("rgb", 128.0, 0), ("rgb", MEAN, 0), ("bgr", MEAN, 0), ("gray", (90.0,), 0),
        ("yuv444", 128.0, 0), ("yuv444", (90.0, 128.0, 128.0), 0),
        ("yuv444", (90.0, 120.0, 140.0), 1),
    ],
)  # fmt: skip
def test_padding_is_zero_in_every_channel(tmp_path, order, mean, slack):
    """As near to 0 as a byte is to the mean; colours of YUV go through bytes of RGB as well."""
    path, _ = saved(tmp_path, 10, 4)
    image, meta = ModelInput(size=(10, 20), format=order, mean=mean, std=1.0).read(path)
    assert meta["width"] == 4
    assert np.abs(image[:, :, 4:]).max() <= 0.5 + slack


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
@pytest.mark.parametrize("shape", [(30, 40), (33, 7), (8, 50)])
def test_boxes_and_masks_come_back_to_the_picture(tmp_path, resize, shape):
    path, _ = saved(tmp_path, *shape)
    fed = ModelInput(size=(64, 48), resize=resize)
    _, meta = fed.read(path)
    height, width = shape
    boxes = np.array([[0, 0, width, height], [1, 2, width / 2, height / 3]])
    scale = [meta["scale_x"], meta["scale_y"]] * 2
    np.testing.assert_allclose(restore_boxes(meta, boxes * scale), boxes, atol=1e-9)
    if resize == "stretch":
        assert np.allclose(boxes[0] * scale, [0, 0, 48, 64])
    labels = np.arange(height * width).reshape(shape) // 4 % 5
    mask = Image.fromarray(labels.astype(np.uint8))
    seen = fed.fitted(mask).paste(mask, fed.size, (255,), Image.Resampling.NEAREST)
    assert (np.asarray(seen) == 255).any() == (resize == "letterbox")
    restored = restore_mask(meta, np.asarray(seen))
    assert restored.shape == shape and set(np.unique(restored)) <= set(range(5))


def test_an_input_of_its_own_size_is_not_resampled(tmp_path):
    path, pixels = saved(tmp_path, 6, 8)
    for resize in ("letterbox", "stretch"):
        image, _ = ModelInput(size=(6, 8), mean=0.0, std=1.0, resize=resize).read(path)
        assert np.array_equal(image.transpose(1, 2, 0), pixels)


@pytest.mark.parametrize("levels", [(128, 128), ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4))])
@pytest.mark.parametrize("mode", ["rgb", "bgr", "yuv444", "gray"])
def test_normalizing_has_the_bytes_of_the_formula(mode, levels):
    """As NumPy computes it with the channels behind, in float32."""
    mean, std = levels if mode != "gray" else (125.3, (51.2,))
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    image = Image.fromarray(pixels)
    fed = ModelInput(size=(6, 9), format=mode, mean=mean, std=std)
    behind = np.asarray(image.convert(MODES[mode]), np.float32).reshape(6, 9, -1)
    behind = behind[..., ::-1] if mode == "bgr" else behind
    expected = (behind - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    made = fed.normalize(image)
    assert made.dtype == np.float32 and made.flags.c_contiguous
    assert made.tobytes() == expected.transpose(2, 0, 1).tobytes()
    assert np.array_equal(np.asarray(image), pixels)
