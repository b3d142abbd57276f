"""Files of `torch.save`, read without running code from them."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from qatspec.files import open_file, why_unreadable


def load_tensors(path: Path) -> Any:
    """What `torch.save` wrote to `path`, on the CPU.

    An archive whose entries are compressed is refused: torch.save compresses nothing, and a small
    compressed file may expand to more than the memory.

    Raises FileNotFoundError, and ValueError with the reason where it cannot be
    read or is damaged.
    """
    try:
        file = open_file(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"it cannot be read: {why_unreadable(error)}") from error
    with file:
        try:
            if zipfile.is_zipfile(file):
                _demand_stored(zipfile.ZipFile(file))
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
        except (
            RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, AttributeError,
            IndexError, OverflowError, MemoryError, AssertionError, NotImplementedError,
            pickle.UnpicklingError, zipfile.BadZipFile,
        ) as error:  # fmt: skip
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(first) from error


def _demand_stored(archive: zipfile.ZipFile) -> None:
    for entry in archive.infolist():
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise ValueError(
                f"its entry `{entry.filename}` is compressed, which torch.save never does"
            )
