"""Large, damaged and foreign files are refused by a diagnostic that names them."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from qatspec.api import DiagnosticError, open_labels, open_picture


def refusal(path: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DiagnosticError) as caught:
            open_picture(path)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "QS911"
    assert path.name in diagnostic.message
    return diagnostic.message


def black_png(path: Path, width: int, height: int) -> Path:
    """A PNG of black RGB pixels, compressed in pieces."""
    packer = zlib.compressobj(1)
    line = b"\0" * (1 + 3 * width)
    data = b"".join(packer.compress(line) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", data), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def peak_mib(path: Path) -> tuple[str, float]:
    """(what reading it printed, peak memory of it above that of the imports in MiB)."""
    code = """
import resource, sys
from pathlib import Path
from qatspec.api import DiagnosticError, open_picture
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
try:
    print(open_picture(Path(sys.argv[1])).size)
except DiagnosticError as error:
    print(error.diagnostics[0].message)
print(peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    words, used = done.stdout.splitlines()
    return words, float(used)


def test_a_picture_with_too_many_pixels_costs_nothing(tmp_path: Path) -> None:
    for width, height in ((13000, 13000), (60000, 60000)):
        path = tmp_path / "large.png"
        Image.new("1", (8, 8)).save(path)
        content = bytearray(path.read_bytes())
        content[16:24] = struct.pack(">II", width, height)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
        path.write_bytes(content)
        words, used = peak_mib(path)
        assert "more than the 100,000,000 pixels" in words
        assert used < 20


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux alone")
def test_a_large_picture_takes_four_bytes_a_pixel(tmp_path: Path) -> None:
    words, used = peak_mib(black_png(tmp_path / "a.png", 5000, 5000))
    assert words == "(5000, 5000)"
    assert used < 1.3 * 4 * 5000 * 5000 / 2**20


def test_sixteen_bits_are_scaled_in_parts(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((5000, 5000), np.uint16)).save(tmp_path / "a.png", compress_level=1)
    words, used = peak_mib(tmp_path / "a.png")
    assert words == "(5000, 5000)"
    assert used < 1.3 * (2 + 1 + 4) * 5000 * 5000 / 2**20


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.gif", "a.tif", "a.webp", "a.ppm"])
def test_a_truncated_file(name: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / name
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    for share in (0.0, 0.01, 0.3, 0.6, 0.9):
        path.write_bytes(content[: int(len(content) * share)])
        refusal(path)


def test_what_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    assert "none of the formats" in refusal(tmp_path / "text.png")
    (tmp_path / "eps.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n")
    assert "none of the formats" in refusal(tmp_path / "eps.png")
    (tmp_path / "folder.png").mkdir()
    assert "folder" in refusal(tmp_path / "folder.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert "named pipe" in refusal(tmp_path / "pipe.png")
    half = Image.fromarray(np.zeros((2, 2), np.uint8))
    half.save(tmp_path / "half.tif", tiffinfo={339: 3})  # 8-bit numbers that are called floats
    assert "a TIFF file that is damaged or stores numbers" in refusal(tmp_path / "half.tif")
    (tmp_path / "loop.png").symlink_to("loop.png")
    assert "loop" in refusal(tmp_path / "loop.png")
    assert "no such file" in refusal(tmp_path / "absent.png")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.tif", "a.bmp", "a.webp", "a.jp2"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_changed_bytes_are_read_or_refused(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("changed") / name
    exif = Image.Exif()
    exif[0x112] = 6
    options = {} if name in ("a.gif", "a.bmp", "a.jp2") else {"exif": exif}
    Image.new("L", (16, 12), 90).save(path, **options)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    for read in (open_picture, open_labels):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                read(path)
            except DiagnosticError as error:
                assert error.diagnostics[0].code == "QS911"
