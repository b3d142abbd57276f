"""Label maps keep the numbers that their file stores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qatspec.api import DiagnosticError, open_labels, open_picture


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


def png(path: Path, bits: int, kind: int, samples: list[int], extra: bytes = b"") -> Path:
    """A PNG of one row, whose samples have 8 or 16 bits; extra: chunks before the pixels."""
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    width = len(samples) // {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    row = b"\0" + np.array(samples, ">u2" if bits == 16 else "u1").tobytes()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, bits, kind, 0, 0, 0))
    body = extra + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + body)
    return path


@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_in_several_channels_are_refused(
    kind: int, channels: int, tmp_path: Path
) -> None:
    """Pillow keeps the upper eight bits of them, which are other labels."""
    labels = [n for label in (5, 300) for n in [label] * channels]
    with pytest.raises(DiagnosticError, match="only 8 are read"):
        open_labels(png(tmp_path / "a.png", 16, kind, labels))
    found = open_labels(png(tmp_path / "b.png", 16, 0, [5, 300]))  # following the help
    assert found.tolist() == [[5, 300]]


@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.avif", "a.jp2", "a.mpo"])
def test_formats_that_change_numbers_are_refused(name: str, tmp_path: Path) -> None:
    labels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(labels).convert("RGB").save(tmp_path / name)
    with pytest.raises(DiagnosticError, match="may not keep the numbers"):
        open_labels(tmp_path / name)


@pytest.mark.parametrize(
    ("kind", "sample_format", "expected"),
    [("i1", 2, [[-1, 5]]), ("u1", 1, [[255, 5]]), ("<u4", 1, None), ("<i4", 2, [[-1, 5]])],
)
def test_signs_of_a_tiff(
    kind: str, sample_format: int, expected: list[list[int]] | None, tmp_path: Path
) -> None:
    """Pillow gives signed bytes as unsigned, and wide unsigned numbers as signed."""
    import struct

    data = np.array([-1, 5]).astype(kind).tobytes()
    tags = {
        256: 2, 257: 1, 258: len(data) * 4, 259: 1, 262: 1, 273: 134, 277: 1, 278: 1,
        279: len(data), 339: sample_format,
    }  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    (tmp_path / "a.tif").write_bytes(head + data)
    if expected is None:
        with pytest.raises(DiagnosticError, match="above 2,147,483,647"):
            open_labels(tmp_path / "a.tif")
    else:
        assert open_labels(tmp_path / "a.tif").tolist() == expected
    if kind == "u1":
        assert np.asarray(open_picture(tmp_path / "a.tif"))[0, 0, 0] == 255
    else:
        with pytest.raises(DiagnosticError, match="signed integers"):
            open_picture(tmp_path / "a.tif")


@pytest.mark.parametrize(("colours", "used"), [(0, 0), (1, 1), (4, 4), (4, 255)])
def test_pixels_without_a_colour_are_refused_and_are_labels(
    colours: int, used: int, tmp_path: Path
) -> None:
    """Pillow paints them black. As labels they are numbers like others."""
    import struct
    import zlib

    data = bytes(range(3 * colours))
    palette = struct.pack(">I", len(data)) + b"PLTE" + data
    palette += struct.pack(">I", zlib.crc32(b"PLTE" + data))
    path = png(tmp_path / "a.png", 8, 3, [0, used], palette if colours else b"")
    with pytest.raises(DiagnosticError, match=f"colour {used}, but its palette has {colours}"):
        open_picture(path)
    assert open_labels(path).tolist() == [[0, used]]


def test_a_long_text_in_a_picture_is_told_with_a_way_out(tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("XML:com.adobe.xmp", "a" * (3 << 20), zip=True)
    Image.new("RGB", (4, 4), "gray").save(tmp_path / "a.png", pnginfo=text)
    with pytest.raises(DiagnosticError, match="larger than 1 MiB") as caught:
        open_picture(tmp_path / "a.png")
    assert "metadata" in str(caught.value.diagnostics[0].help)
    Image.new("RGB", (4, 4), "gray").save(tmp_path / "a.png")
    assert open_picture(tmp_path / "a.png").size == (4, 4)
