"""The inputs that decide the drawn pictures, available without importing the code that draws."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from qatspec_vision.data.files import with_transforms

from qatspec.api import codes, content_digest

#: Raised whenever the same params draw other pictures.
DRAWING_VERSION = 1
#: The params that decide what is drawn; the others decide how it is read.
DRAWN_BY = ("split", "images", "picture", "digits", "height", "seed")


def require_scikit_learn() -> str:
    """Its version. Raises DiagnosticError QS915 where it is not installed."""
    try:
        return version("scikit-learn")
    except PackageNotFoundError as error:
        raise codes.QS915.error(
            "`digits_detection` draws the scans of scikit-learn, which is not installed",
            help="pip install 'qatspec[demo]'",
        ) from error


@with_transforms
def fingerprint(params: Mapping[str, Any], base_dir: Path) -> str:
    """Digest what the pictures depend on; `base_dir` holds none of it."""
    facts = {
        "drawing": DRAWING_VERSION,
        "scikit-learn": require_scikit_learn(),
        **{name: params[name] for name in DRAWN_BY},
    }
    return content_digest({}, facts)


def class_names(params: Mapping[str, Any], base_dir: Path) -> list[str]:
    """The ten digits."""
    return [str(digit) for digit in range(10)]
