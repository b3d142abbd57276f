"""Every mode of every file format is read as the grey that it shows, or refused by name."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from qatspec.api import DiagnosticError, open_picture

GREY = 127
SIZE = (6, 4)


def full(value: float, dtype: str) -> np.ndarray:
    return np.full((SIZE[1], SIZE[0]), value, dtype)


def grey(mode: str) -> Image.Image:
    return Image.new("L", SIZE, GREY).convert(mode)


def palette(mode: str) -> Image.Image:
    image = Image.new("P", SIZE, 3)
    image.putpalette([*[0, 0, 0] * 3, GREY, GREY, GREY])
    return image if mode == "P" else image.convert("PA")


def transparent_palette() -> Image.Image:
    image = palette("P")
    image.info["transparency"] = bytes([0, 0, 0, 128])
    return image


def lab() -> Image.Image:
    converted = ImageCms.profileToProfile(
        grey("RGB"),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    assert converted is not None
    return converted


def half_transparent() -> Image.Image:
    image = grey("RGBA")
    image.putalpha(64)
    return image


READABLE = {
    "l.png": grey("L"),
    "l.bmp": grey("L"),
    "la.png": grey("LA"),
    "la.tif": grey("LA"),
    "p.png": palette("P"),
    "p.gif": palette("P"),
    "transparent.png": transparent_palette(),
    "pa.tif": palette("PA"),
    "rgb.png": grey("RGB"),
    "rgb.ppm": grey("RGB"),
    "rgb.tga": grey("RGB"),
    "rgba.png": half_transparent(),
    "rgba.webp": half_transparent(),
    "cmyk.tif": grey("CMYK"),
    "cmyk.jpg": grey("CMYK"),
    "ycbcr.jpg": grey("YCbCr"),
    "ycbcr.tif": grey("YCbCr"),
    "lab.tif": lab(),
    "i16.png": Image.fromarray(full(GREY * 257, "<u2")),
    "i16.tif": Image.fromarray(full(GREY * 257, "<u2")),
    "i16.pgm": Image.fromarray(full(GREY * 257, "<i4")),
    "i16.jp2": Image.fromarray(full(GREY * 257, "<u2")),
    "f.tif": Image.fromarray(full(GREY / 255, "<f4")),
    "f.pfm": Image.fromarray(full(GREY / 255, "<f4")),
}


@pytest.mark.parametrize("name", READABLE)
def test_the_mean_is_the_grey_of_the_file(name: str, tmp_path: Path) -> None:
    READABLE[name].save(tmp_path / name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = open_picture(tmp_path / name)
    assert (image.mode, image.size) == ("RGB", SIZE)
    assert np.asarray(image).mean() == pytest.approx(GREY, abs=1)


@pytest.mark.parametrize("value", [0, 1])
def test_one_bit_is_black_or_white(value: int, tmp_path: Path) -> None:
    for name in ("a.png", "a.tif", "a.bmp", "a.pbm"):
        Image.new("1", SIZE, value).save(tmp_path / name)
        assert np.asarray(open_picture(tmp_path / name)).mean() == 255 * value


def tiff(path: Path, order: str, pixels: np.ndarray, **tags: int) -> Path:
    """A minimal grey TIFF of one strip; tags: bits, photometric, sample_format."""
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    entries = [
        (256, pixels.shape[1]), (257, pixels.shape[0]),
        (258, tags.get("bits", 8 * pixels.itemsize)), (259, 1),
        (262, tags.get("photometric", 1)), (273, 8), (277, 1), (278, pixels.shape[0]),
        (279, len(data)), (339, tags.get("sample_format", 1)),
    ]  # fmt: skip
    head = b"II*\0" if order == "<" else b"MM\0*"
    table = struct.pack(order + "H", len(entries))
    for tag, value in entries:
        table += struct.pack(order + "HHI", tag, 4, 1) + struct.pack(order + "I", value)
    path.write_bytes(head + struct.pack(order + "I", 8 + len(data)) + data + table + b"\0" * 4)
    return path


@pytest.mark.parametrize("order", "<>")
def test_both_byte_orders(order: str, tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", order, full(GREY * 257, "u2"))
    assert (np.asarray(open_picture(path)) == GREY).all()
    path = tiff(tmp_path / "b.tif", order, full(GREY / 255, "f4"), sample_format=3)
    assert (np.asarray(open_picture(path)) == GREY).all()


def test_sixteen_bits_with_white_at_zero(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", "<", full((255 - GREY) * 257, "u2"), photometric=0)
    assert (np.asarray(open_picture(path)) == GREY).all()


def test_twelve_bits(tmp_path: Path) -> None:
    """Two 12-bit numbers in three bytes, big-endian as TIFF packs them."""
    row = np.tile(np.frombuffer(bytes.fromhex("7F77F7"), np.uint8), (4, 3))
    path = tiff(tmp_path / "a.tif", "<", row, bits=12)
    content = bytearray(path.read_bytes())
    at = content.index(struct.pack("<HHI", 256, 4, 1)) + 8
    content[at : at + 4] = struct.pack("<I", 6)
    path.write_bytes(content)
    expected = round(0x7F7 / 4095 * 255)
    assert (np.asarray(open_picture(path)) == expected).all()


def test_every_level_of_sixteen_bits_is_rounded_once(tmp_path: Path) -> None:
    levels = np.arange(65536, dtype=np.uint16).reshape(512, 128)
    Image.fromarray(levels).save(tmp_path / "a.png")
    read = np.asarray(open_picture(tmp_path / "a.png"))[..., 0]
    assert (read == np.rint(levels / 257)).all()


REFUSED = {
    "int32": full(GREY, "i4"),
    "signed": full(GREY, "i2"),
    "large float": full(GREY, "f4"),
    "negative": full(-0.5, "f4"),
    "nan": full(np.nan, "f4"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_numbers_without_a_defined_white_are_refused(name: str, tmp_path: Path) -> None:
    pixels = REFUSED[name]
    path = tiff(tmp_path / "a.tif", "<", pixels, sample_format={"i": 2, "f": 3}[pixels.dtype.kind])
    with pytest.raises(DiagnosticError) as caught:
        open_picture(path)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "QS911"
    assert "white" in diagnostic.message
    # following the help: white is 65535 in an unsigned 16-bit file
    Image.fromarray(full(GREY * 257, "<u2")).save(path)
    assert (np.asarray(open_picture(path)) == GREY).all()


def test_the_first_frame_is_read(tmp_path: Path) -> None:
    for name in ("a.gif", "a.tif", "a.png", "a.webp"):
        grey("RGB").save(
            tmp_path / name, save_all=True, append_images=[Image.new("RGB", SIZE, "white")]
        )
        read = np.asarray(open_picture(tmp_path / name))
        assert read.mean() == pytest.approx(GREY, abs=1)
