"""What a compiled file is fed: two implementations of the frames' meaning agree, and it is the
meaning that pictures have in training."""

import numpy as np
import pytest
from PIL import Image

from qatspec.ir import Port
from qatspec.program import RuntimeInput, interpret_frames

CASES = [
    ("featuremap", "rgb"), ("rgb", "rgb"), ("bgr", "rgb"), ("yuv444", "rgb"), ("nv12", "rgb"),
    ("yuv444", "yuv444"), ("nv12", "yuv444"), ("gray", "gray"),
    ("rgb", "bgr"), ("bgr", "bgr"), ("yuv444", "bgr"), ("nv12", "bgr"),
]  # fmt: skip
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def fed(kind, trained_on="rgb", layout="NCHW", mean=128.0, std=128.0, scale=1 / 128, size=(6, 10)):
    port = Port(
        name="images", dtype="int8", shape=(1 if trained_on == "gray" else 3, *size),
        layout="NCHW", scale=np.array([scale], np.float32),
    )  # fmt: skip
    return RuntimeInput(kind=kind, layout=layout, format=trained_on, mean=mean, std=std, port=port)


def frames(made, count=3):
    port, rng = made.outside, np.random.default_rng(5)
    low, high = (-128, 127) if port.dtype == "int8" else (0, 255)
    return rng.integers(low, high, (count, *port.shape), endpoint=True).astype(port.dtype)


@pytest.mark.parametrize(("kind", "trained_on"), CASES)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("mean", "std", "scale"),
    [(128, 128, 1 / 128), (123.7, 58.4, 0.0171), (IMAGENET_MEAN, IMAGENET_STD, 0.0207)],
)
def test_both_implementations_agree(kind, trained_on, layout, mean, std, scale):
    if (kind, layout) == ("nv12", "NHWC"):
        return
    if trained_on == "gray" and isinstance(mean, tuple):
        mean, std = mean[:1], std[:1]
    made = fed(kind, trained_on, layout, mean, std, scale)
    given = frames(made)
    ints = made.integers(given)
    assert ints.dtype == np.int8 and ints.shape == (3, *made.port.shape)
    assert np.array_equal(ints, interpret_frames(made, given))


def test_centred_bytes_are_the_pixel_less_128():
    made = fed("yuv444", "yuv444")
    given = frames(made)
    assert np.array_equal(made.integers(given), (given.astype(int) - 128).astype(np.int8))


def test_every_colour_within_one_of_the_real_formula():
    """ITU-T T.871 in real numbers; one is what rounding each of two products can do."""
    grid = np.stack(np.meshgrid(*[np.arange(0, 256, 3)] * 3, indexing="ij")).reshape(3, 1, -1)
    made = fed("yuv444", "rgb", size=grid.shape[1:])
    ints = made.integers(grid[None].astype(np.uint8))[0].astype(int) + 128
    y, u, v = grid[0], grid[1] - 128.0, grid[2] - 128.0
    real = np.stack([y + 1.402 * v, y - 0.344136 * u - 0.714136 * v, y + 1.772 * u])
    assert np.abs(ints - np.clip(real, 0, 255)).max() <= 0.51


def test_nv12_by_hand():
    """4 x 4: each chroma pair serves the square of two by two above it."""
    made = fed("nv12", "yuv444", size=(4, 4))
    frame = np.arange(24, dtype=np.uint8).reshape(1, 6, 4) + 100
    ints = made.integers(frame)[0].astype(int) + 128
    assert ints[0].tolist() == (np.arange(16).reshape(4, 4) + 100).tolist()
    assert ints[1].tolist() == [[116, 116, 118, 118]] * 2 + [[120, 120, 122, 122]] * 2
    assert ints[2].tolist() == [[117, 117, 119, 119]] * 2 + [[121, 121, 123, 123]] * 2


@pytest.mark.parametrize(("kind", "mode", "slack"), [("rgb", "RGB", 0), ("yuv444", "YCbCr", 1)])
def test_a_picture_becomes_the_frame_that_a_camera_gives(kind, mode, slack):
    """frame() undoes the normalisation; Pillow's own conversion is one off at most."""
    pixels = np.random.default_rng(1).integers(0, 256, (6, 10, 3)).astype(np.uint8)
    images = ((pixels.transpose(2, 0, 1)[None].astype(np.float32)) - 128) / 128
    wanted = np.asarray(Image.fromarray(pixels).convert(mode)).transpose(2, 0, 1)[None]
    given = fed(kind).frame(images)
    assert given.dtype == np.uint8
    assert np.abs(given.astype(int) - wanted).max() <= slack


@pytest.mark.parametrize(("kind", "trained_on"), CASES)
def test_smooth_pictures_survive_the_way_through_the_camera(kind, trained_on):
    made = fed(kind, trained_on, size=(8, 8))
    channels = made.port.shape[0]
    ramp = np.linspace(-0.4, 0.4, 8, dtype=np.float32)
    images = (
        np.broadcast_to(ramp, (1, channels, 8, 8)) * np.linspace(1, 0.9, channels)[:, None, None]
    )
    back = made.integers(made.frame(images.astype(np.float32)))
    exact = made.port.quantize(images)
    slack = {"nv12": 12, "yuv444": 3 if trained_on == "rgb" else 1}.get(kind, 1)
    assert np.abs(back.astype(int) - exact).max() <= slack


@pytest.mark.parametrize(
    ("kind", "shape", "layout"),
    [("yuv444", (3, 6, 10), "NCHW"), ("rgb", (6, 10, 3), "NHWC"), ("nv12", (9, 10), "NV12")],
)
def test_the_port_that_the_file_shows(kind, shape, layout):
    port = fed(kind, layout="NHWC" if layout == "NHWC" else "NCHW").outside
    assert (port.dtype, port.shape, port.layout) == ("uint8", shape, layout)
    assert (port.scale.tolist(), port.zero_point) == ([1.0], 0)


def test_bytes_of_a_frame():
    assert fed("nv12").frame_bytes(0, 6) == 6 * 10 * 3 // 2
    assert fed("nv12").frame_bytes(1, 3) == 2 * 10 + 2 * 10, "two rows of chroma are touched"
    assert fed("rgb").frame_bytes(2, 3) == 30


@pytest.mark.parametrize("trained_on", ["rgb", "bgr"])
@pytest.mark.parametrize("kind", ["rgb", "bgr"])
def test_channels_keep_their_own_mean_and_std(kind, trained_on):
    """Each pixel's integer is round((pixel - mean) / std / scale) of its channel, from exact
    fractions; and a frame made of images comes back as the bytes that they were."""
    made = fed(kind, trained_on, "NHWC", IMAGENET_MEAN, IMAGENET_STD, 0.0207)
    given = frames(made)
    pixels = given if kind == trained_on else given[..., ::-1]
    real = (pixels - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    wanted = np.clip(np.rint(real / np.float32(0.0207)), -128, 127).transpose(0, 3, 1, 2)
    assert np.array_equal(made.integers(given), wanted)
    assert np.array_equal(made.frame(real.transpose(0, 3, 1, 2)), given)


@pytest.mark.parametrize(
    "change",
    [
        {"type": "yuv420"}, {"layout": "HWCN"}, {"trained_on": "gray"}, {"std": 0}, {"mean": "x"},
        {"mean": 127.0}, {"tables": []}, {"chroma": "linear"}, {"mean": [128.0, 128.0]},
        {"std": [128.0, 0.0, 128.0]}, {"mean": [128.0, 128.0, "x"]},
    ],
)  # fmt: skip
def test_a_record_comes_back_whole_or_not_at_all(change):
    made = fed("nv12")
    record = made.record()
    assert RuntimeInput.of(record, made.port).record() == record
    with pytest.raises((KeyError, TypeError, ValueError)):
        RuntimeInput.of({**record, **change}, made.port)
