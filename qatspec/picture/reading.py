"""The one way to read a picture or a label map, for data sets, `infer` and plugins alike.

Colours are taken as they are stored: alpha is ignored, as the loaders of other frameworks ignore
it. Of a file with several frames or pages the first one is read. A file with a rotation tag is
read upright, as viewers show it, unless its annotations refer to the stored pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qatspec.diag import Diagnostic, DiagnosticError, Span
from qatspec.diag.codes import QS950
from qatspec.picture.colours import to_rgb
from qatspec.picture.labels import to_labels
from qatspec.picture.stored import FORMATS, Stored, read, turned


class AnnotatedPicture(NamedTuple):
    """An RGB picture in the frame that its annotations refer to.

    as_stored: its rotation tag was ignored, because the annotations have the size of the stored
    pixels.
    """

    image: Image.Image
    as_stored: bool


def open_picture(path: Path) -> Image.Image:
    """Read a picture as 8-bit RGB, upright.

    path  the file. Unsigned 16-bit grey numbers and floats from 0 to 1 are scaled to 0-255 and
          rounded; of colours of 16 bits the upper 8 are taken; 1-bit, palette, CMYK, YCbCr and Lab
          pictures are converted; alpha is ignored.

    Returns the picture. Raises DiagnosticError QS911: the file cannot be read, is damaged, has more
    than MAX_PIXELS, or stores numbers without a defined white (32-bit or signed integers, floats
    outside of 0 to 1).
    """
    return read(path, lambda stored: turned(to_rgb(stored), stored.orientation))


def open_annotated_picture(path: Path, size: tuple[int, int] | None) -> AnnotatedPicture:
    """Read a picture as `open_picture` does, in the frame that its annotations refer to.

    path  the file.
    size  (width, height) in pixels that the annotations state. The upright picture is taken where
          that is its size, else the stored one where that is its size. None: the upright picture.

    Returns the picture, and whether it is the stored one. Raises DiagnosticError: QS911 as
    `open_picture` does, QS950 where neither has that size.
    """

    def in_frame(stored: Stored) -> AnnotatedPicture:
        upright = stored.upright_size
        if size is not None and size not in (upright, stored.pixels.size):
            raise DiagnosticError(_of_another_size(path, upright, size))
        as_stored = size is not None and size != upright
        image = to_rgb(stored)
        frame = image if as_stored else turned(image, stored.orientation)
        return AnnotatedPicture(frame, as_stored)

    return read(path, in_frame)


def open_labels(path: Path) -> NDArray[np.int32]:
    """Read a label map (height, width), upright, with the numbers that the file stores.

    path  the file. Palette files give their indices, files of 1, 2, 4, 16 or 32 bits a pixel their
          values.

    Returns (height, width) int32. Raises DiagnosticError QS911 as `open_picture` does, and for
    files that do not store one whole number a pixel: colours, floats, 16 bits in several channels;
    and for formats that may change the numbers (JPEG, WebP, AVIF, JPEG 2000).
    """

    def upright(stored: Stored) -> NDArray[np.int32]:
        values = Image.fromarray(to_labels(stored))
        return np.array(turned(values, stored.orientation))

    return read(path, upright)


def suffixes() -> frozenset[str]:
    """How names of picture files end, in lower case, with the dot."""
    known = Image.registered_extensions()
    return frozenset(suffix for suffix, name in known.items() if name in FORMATS)


def _of_another_size(path: Path, size: tuple[int, int], stated: tuple[int, int]) -> Diagnostic:
    return QS950.diagnostic(
        f"the picture `{path.name}` has {size[0]} x {size[1]} pixels, but its annotations "
        f"are of a picture of {stated[0]} x {stated[1]}",
        help="restore the picture that was annotated, or scale the annotations and correct the "
        "width and height that they state",
        span=Span(file=str(path)),
    )
