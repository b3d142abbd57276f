"""Files of `torch.save`, read without running code from them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from qatspec.files import open_file
from qatspec.plan.checkpoints import demand_stored


def load_tensors(path: Path) -> Any:
    """What `torch.save` wrote to `path`, on the CPU.

    An archive whose entries are compressed is refused: torch.save compresses nothing, and a small
    compressed file may expand to more than the memory.

    Raises OSError where it cannot be read, and ValueError with the reason where it is damaged.
    """
    with open_file(path) as file:
        try:
            if zipfile.is_zipfile(file):
                demand_stored(zipfile.ZipFile(file))
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch's unpickler may raise anything of damaged bytes
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(first) from error
