"""Label maps keep the numbers that their file stores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qatspec.api import DiagnosticError, open_labels


def palette(labels: np.ndarray) -> Image.Image:
    image = Image.fromarray(labels.astype(np.uint8)).convert("P")
    image.putdata(labels.ravel().tolist())
    image.putpalette([(37 * n + 11 * c) % 256 for n in range(256) for c in range(3)])
    return image


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.tif", "a.bmp"])
def test_palettes_give_their_indices(bits: int, name: str, tmp_path: Path) -> None:
    labels = (np.arange(24) % 2**bits).reshape(4, 6)
    options = {"bits": bits} if name == "a.png" else {}
    palette(labels).save(tmp_path / name, **({"optimize": False} | options))
    assert (open_labels(tmp_path / name) == labels).all()


def test_grey_png_of_few_bits_is_not_scaled(tmp_path: Path) -> None:
    """Pillow reads 4-bit grey as 0, 17, ... 255, and cannot write it: the file is made here."""
    import struct
    import zlib

    for bits in (1, 2, 4, 8):
        labels = (np.arange(32) % 2**bits).reshape(4, 8)
        packed = np.zeros((4, bits), np.uint8)
        for row, numbers in enumerate(labels):
            text = "".join(f"{n:0{bits}b}" for n in numbers)
            packed[row] = [int(text[i : i + 8], 2) for i in range(0, len(text), 8)]
        lines = b"".join(b"\0" + row.tobytes() for row in packed)
        chunks = [
            (b"IHDR", struct.pack(">IIBBBBB", 8, 4, bits, 0, 0, 0, 0)),
            (b"IDAT", zlib.compress(lines)),
            (b"IEND", b""),
        ]
        png = b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d))
            for k, d in chunks
        )
        (tmp_path / "a.png").write_bytes(png)
        assert open_labels(tmp_path / "a.png").tolist() == labels.tolist(), bits


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_keep_their_labels(name: str, tmp_path: Path) -> None:
    labels = np.array([[0, 1, 255], [256, 26001, 65535]], np.uint16)
    Image.fromarray(labels).save(tmp_path / name)
    assert (open_labels(tmp_path / name) == labels).all()


def test_signed_and_wide_numbers(tmp_path: Path) -> None:
    labels = np.array([[-1, 0, 7], [33, 70000, 2]], np.int32)
    Image.fromarray(labels).save(tmp_path / "a.tif")
    assert (open_labels(tmp_path / "a.tif") == labels).all()


@pytest.mark.parametrize(
    ("maximum", "kind"), [(18, "u1"), (255, "u1"), (1000, ">u2"), (65535, ">u2")]
)
def test_the_maximum_of_a_pgm_does_not_scale(maximum: int, kind: str, tmp_path: Path) -> None:
    labels = np.linspace(0, maximum, 12).astype(int).reshape(3, 4)
    head = f"P5 4 3 {maximum}\n".encode()
    (tmp_path / "a.pgm").write_bytes(head + labels.astype(kind).tobytes())
    assert (open_labels(tmp_path / "a.pgm") == labels).all()


def test_grey_with_alpha_and_grey_as_rgb(tmp_path: Path) -> None:
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for mode in ("LA", "RGB", "RGBA"):
        Image.fromarray(labels).convert(mode).save(tmp_path / "a.png")
        assert (open_labels(tmp_path / "a.png") == labels).all()


def test_what_is_no_label_map_is_refused(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "rgb.png")
    Image.new("L", (8, 8), 7).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").rename(tmp_path / "jpeg.png")
    Image.new("F", (8, 8), 7).save(tmp_path / "float.tif")
    for name in ("rgb.png", "jpeg.png", "float.tif"):
        with pytest.raises(DiagnosticError) as caught:
            open_labels(tmp_path / name)
        assert caught.value.diagnostics[0].code == "QS911"
