"""Rotation tags: pictures are upright, unless their annotations are of the stored pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from qatspec.api import DiagnosticError, open_annotated_picture, open_labels, open_picture

NAMES = ("a.jpg", "a.png", "a.tif", "a.webp")


def saved(path: Path, orientation: int) -> np.ndarray:
    """A picture of 48 x 32 pixels whose quarters differ; its stored pixels."""
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:16, :24], pixels[:16, 24:], pixels[16:, :24] = 250, 160, 80
    exif = Image.Exif()
    exif[0x112] = orientation
    options = {"lossless": True} if path.suffix == ".webp" else {}
    Image.fromarray(pixels).save(path, exif=exif, **options)
    return pixels


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """What Pillow's own function makes of it."""
    image = Image.fromarray(pixels)
    image.getexif()[0x112] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


def same(image: Image.Image, pixels: np.ndarray) -> bool:
    read = np.asarray(image).astype(int)
    return read.shape == pixels.shape and abs(read - pixels).mean() < 3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_annotated_size_decides(name: str, orientation: int, tmp_path: Path) -> None:
    path = tmp_path / name
    stored = saved(path, orientation)
    shown = upright(stored, orientation)
    assert same(open_picture(path), shown)
    size = shown.shape[1::-1]
    found = open_annotated_picture(path, size)
    assert same(found.image, shown)
    assert not found.as_stored
    assert same(open_annotated_picture(path, None).image, shown)
    if orientation >= 5:
        found = open_annotated_picture(path, (48, 32))
        assert same(found.image, stored)
        assert found.as_stored
    with pytest.raises(DiagnosticError) as caught:
        open_annotated_picture(path, (47, 32))
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "QS950"
    assert name in diagnostic.message
    assert "47 x 32" in diagnostic.message


@pytest.mark.parametrize("orientation", range(1, 9))
def test_label_maps_are_upright_too(orientation: int, tmp_path: Path) -> None:
    labels = np.arange(24, dtype=np.uint8).reshape(4, 6)
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(labels).save(tmp_path / "a.png", exif=exif)
    assert (open_labels(tmp_path / "a.png") == upright(labels, orientation)).all()


def test_a_damaged_rotation_tag_counts_as_none(tmp_path: Path) -> None:
    for orientation in (0, 9, 300):
        stored = saved(tmp_path / "a.png", orientation)
        assert same(open_picture(tmp_path / "a.png"), stored)
    Image.new("RGB", (4, 4)).save(tmp_path / "b.png", exif=b"Exif\0\0garbage")
    assert open_picture(tmp_path / "b.png").size == (4, 4)
