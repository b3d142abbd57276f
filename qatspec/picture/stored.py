"""What a picture file stores: its pixels in their own frame, and how to understand them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from PIL import ExifTags, Image, TiffTags, UnidentifiedImageError

from qatspec.diag import DiagnosticError, Span
from qatspec.diag.codes import QS911
from qatspec.files import how_to_read, open_file, why_unreadable

#: Pillow's names of the formats that are read. Formats that start another program (EPS starts
#: Ghostscript) are not among them.
FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "TGA", "TIFF",
    "WEBP",
)  # fmt: skip
#: A picture with more pixels is refused before it is decoded. As RGB it takes four bytes a pixel.
MAX_PIXELS = 100_000_000

_Turn = Image.Transpose
#: EXIF orientation -> what makes the stored pixels upright (Exif 2.32, 4.6.4, tag 274).
_UPRIGHT = {
    2: _Turn.FLIP_LEFT_RIGHT,
    3: _Turn.ROTATE_180,
    4: _Turn.FLIP_TOP_BOTTOM,
    5: _Turn.TRANSPOSE,
    6: _Turn.ROTATE_270,
    7: _Turn.TRANSVERSE,
    8: _Turn.ROTATE_90,
}
_INVERSE = {6: 8, 8: 6}
#: TIFF tags 258 (bits of each channel) and 262 (what 0 means).
_BITS_PER_SAMPLE = TiffTags.lookup(258).value
_PHOTOMETRIC = TiffTags.lookup(262).value
_WHITE_IS_ZERO = 0
#: TIFF tag 339, and its value for signed integers.
_SAMPLE_FORMAT = TiffTags.lookup(339).value
_SIGNED = 2

Result = TypeVar("Result")


class UnreadableError(Exception):
    """Why a decoded picture cannot be used; help: what its owner can do."""

    def __init__(self, why: str, help_: str) -> None:
        super().__init__(why)
        self.help = help_


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A decoded picture.

    pixels       in the frame of the file, without its rotation tag, in Pillow's own mode.
    orientation  the rotation tag, 1 to 8 as EXIF numbers them; 1 where there is none.
    format       Pillow's name of the file format.
    layout       Pillow's name of the layout of a pixel in the file ("L;4I": 4 bits, inverted).
    bits         of a channel, where the file is a TIFF; 16 otherwise.
    maximum      largest value that the file format may store, where the file states it (PGM).
    inverted     0 is white in a TIFF.
    signed       the numbers of a TIFF are signed, which Pillow ignores where they have 8 bits.
    """

    pixels: Image.Image
    orientation: int
    format: str
    layout: str
    bits: int
    maximum: int | None
    inverted: bool
    signed: bool

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) of the upright picture."""
        width, height = self.pixels.size
        return (height, width) if self.orientation >= 5 else (width, height)


def read(path: Path, understand: Callable[[Stored], Result]) -> Result:
    """Decode the first frame of the file at `path` and give what `understand` makes of it.

    Raises DiagnosticError: QS911, and what `understand` raises.
    """
    help_ = "restore the file, or take it out of the data set"
    try:
        with open_file(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's: damage is an error, or harmless
            with Image.open(file, formats=_available()) as image:
                return understand(_decode(image))
    except DiagnosticError:
        raise
    except UnreadableError as error:
        why, help_ = str(error), error.help
    except Image.DecompressionBombError:
        why, help_ = _too_large("it has")
    except UnidentifiedImageError:
        why, help_ = _unidentified(path, help_)
    except MemoryError:
        why = "there is not enough memory for its pixels"
    except OSError as error:
        why, help_ = why_unreadable(error), how_to_read(error, help_)
    except Exception as error:  # noqa: BLE001  decoders raise anything on damaged bytes
        why = str(error) or type(error).__name__
        if "MAX_TEXT" in why:  # Pillow's limit for compressed texts and colour profiles of a PNG
            why = "a text or colour profile in it is larger than 1 MiB"
            help_ = "remove its metadata (`exiftool -all= FILE`)"
    raise QS911.error(
        f"cannot read the picture `{path.name}`: {why}", help=help_, span=Span(file=str(path))
    )


def turned(image: Image.Image, orientation: int, *, back: bool = False) -> Image.Image:
    """Stored pixels made upright; back: upright ones as they are stored."""
    turn = _UPRIGHT.get(_INVERSE.get(orientation, orientation) if back else orientation)
    return image if turn is None else image.transpose(turn)


def _decode(image: Image.Image) -> Stored:
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableError(*_too_large(f"it has {image.width} x {image.height} pixels,"))
    tags = getattr(image, "tag_v2", {})
    bits, photometric = tags.get(_BITS_PER_SAMPLE, (16,)), tags.get(_PHOTOMETRIC)
    of_tiff = tags.get(ExifTags.Base.Orientation, 1)
    layout, maximum = _layout(image)
    image.load()
    orientation = _orientation(image)
    pixels = image
    if of_tiff in _UPRIGHT and orientation == 1:
        # Pillow turned the TIFF file while it loaded it, and then removed the tag.
        pixels, orientation = turned(image, of_tiff, back=True), of_tiff
    return Stored(
        pixels=pixels,
        orientation=orientation,
        format=image.format or "",
        layout=layout,
        bits=bits[0],
        maximum=maximum,
        inverted=photometric == _WHITE_IS_ZERO,
        signed=_SIGNED in tags.get(_SAMPLE_FORMAT, ()),
    )


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # noqa: BLE001  damaged metadata is no damage to the pixels
        return 1
    return orientation if orientation in _UPRIGHT else 1


def _layout(image: Image.Image) -> tuple[str, int | None]:
    """Layout and maximum as Pillow passes them to its decoder; ("", None) where it does not."""
    tiles = getattr(image, "tile", None)
    if not tiles:
        return "", None
    decoder, _, _, arguments = tiles[0]
    if isinstance(arguments, str):
        return arguments, None
    layout, *rest = arguments or ("",)
    maximum = rest[0] if decoder.startswith("ppm") and rest else None
    return str(layout), maximum


def _available() -> list[str]:
    """The formats that this build of Pillow can decode."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _unidentified(path: Path, usual: str) -> tuple[str, str]:
    """The reason why Pillow cannot identify a file, and a fix."""
    with open_file(path) as file:
        start = file.read(4)
    if start in (b"II*\0", b"MM\0*"):
        return (
            "it is a TIFF file that is damaged or stores numbers that cannot be read (such as "
            "floats of 16 or 64 bits)",
            "restore the file, or save it with 8 or unsigned 16 bits a channel",
        )
    return f"it is damaged, or of none of the formats {', '.join(FORMATS)}", usual


def _too_large(start: str) -> tuple[str, str]:
    return (
        f"{start} more than the {MAX_PIXELS:,} pixels that are read",
        "scale it down or cut it into parts, together with its annotations",
    )
