"""Files of weights without torch: their formats, and the files that an index consists of."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import BinaryIO, Literal

from qatspec.files import open_file
from qatspec.files.reading import parse_json, read_file

Format = Literal["torch", "safetensors", "index"]

#: Largest index of shards that is read.
_LARGEST_INDEX = 64 << 20
#: Largest header of a safetensors file, as the library `safetensors` limits it.
_LARGEST_HEADER = 100_000_000
_SAVE = "save the weights with torch.save(model.state_dict(), 'weights.pth')"
#: First bytes of other formats, and what makes weights of them.
_OTHERS: Mapping[bytes, tuple[str, str]] = {
    b"\x89HDF": ("an HDF5 file (Keras)", f"convert the model to torch, and {_SAVE}"),
    b"\x93NUMPY": ("an array of numpy", _SAVE),
    b"GGUF": ("a GGUF file", _SAVE),
    b"\x1f\x8b": ("compressed by gzip", "unpack it with gunzip"),
    b"BZh": ("compressed by bzip2", "unpack it with bunzip2"),
    b"\xfd7zXZ": ("compressed by xz", "unpack it with unxz"),
    b"version https://git-lfs": ("a pointer of git-lfs, not the file itself", "run git lfs pull"),
    b"<!DOCTYPE": ("a web page, not the file itself", "download the file again"),
    b"<html": ("a web page, not the file itself", "download the file again"),
}


class UnusableWeightsError(ValueError):
    """A file whose format holds no weights that can be read. advice: what makes weights of it."""

    def __init__(self, why: str, advice: str) -> None:
        super().__init__(why)
        self.advice = advice


class MissingPackageError(ImportError):
    """Files of this format need the package `name`, which is not installed."""


def weight_format(path: Path) -> Format:
    """The format of a file of weights, told by its contents; a file that is none of the known ones
    counts as "torch".

    Raises OSError, UnusableWeightsError for a format that holds no state dict, and
    MissingPackageError where the package for the format is not installed.
    """
    with open_file(path) as file:
        size, start = os.fstat(file.fileno()).st_size, file.read(32)
        if start.startswith(b"PK\x03\x04"):
            _demand_state_dict(file, path.name)
            return "torch"
    for magic, (what, advice) in _OTHERS.items():
        if start.startswith(magic):
            raise UnusableWeightsError(f"it is {what}", advice)
    if start.lstrip()[:1] == b"{":
        shards(path)
        return "index"
    if _is_safetensors(start, size):
        if importlib.util.find_spec("safetensors") is None:
            raise MissingPackageError(name="safetensors")
        return "safetensors"
    return "torch"


def weight_files(path: Path) -> list[Path]:
    """`path`, and the shards that it lists where it is an index. Raises as `weight_format`."""
    return [path, *shards(path)] if weight_format(path) == "index" else [path]


def shards(path: Path) -> list[Path]:
    """The files that an index (`model.safetensors.index.json`) lists, which lie beside it.

    Raises OSError, and UnusableWeightsError where it is no index.
    """
    try:
        content = parse_json(read_file(path, _LARGEST_INDEX))
    except ValueError:
        content = None
    listed = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(listed, dict) or not listed:
        raise UnusableWeightsError("it is JSON without a `weight_map` of shards", _SAVE)
    names = dict.fromkeys(map(json.dumps, listed.values()))
    for name in map(json.loads, names):
        if not isinstance(name, str) or not re.fullmatch(r"[^/\\\0]*[^/\\\0.][^/\\\0]*", name):
            raise UnusableWeightsError(
                f"its `weight_map` lists {json.dumps(name)}, which is not a file beside it",
                "list the files by their names alone, and put them beside the index",
            )
    return [path.parent / json.loads(name) for name in names]


def _demand_state_dict(file: BinaryIO, name: str) -> None:
    """Raise UnusableWeightsError for an archive of another kind than torch.save's."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = {entry.rpartition("/")[2] for entry in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error):
        return  # torch.load says what is damaged
    if "constants.pkl" in entries:
        what, state = (
            "a TorchScript archive",
            f"jit.load({name!r}, map_location='cpu').state_dict()",
        )
    elif "archive_format" in entries or "serialized_exported_program.json" in entries:
        what, state = "an archive of torch.export", f"export.load({name!r}).state_dict"
    elif any(entry.endswith(".npy") for entry in entries):
        raise UnusableWeightsError("it is an archive of numpy", _SAVE)
    else:
        return
    raise UnusableWeightsError(
        f"it is {what}, which holds a program beside its weights",
        f"write its weights with `import torch; torch.save(torch.{state}, "
        f"{weights_name(name)!r})`, and name that file",
    )


def weights_name(name: str) -> str:
    """The name of a file with the weights of another: model.pt -> model-weights.pth."""
    return f"{PurePath(name).stem}-weights.pth"


def _is_safetensors(start: bytes, size: int) -> bool:
    """Eight bytes with the length of a JSON header, and the header (safetensors' README)."""
    length = int.from_bytes(start[:8], "little")
    return start[8:9] == b"{" and 2 <= length <= min(_LARGEST_HEADER, size - 8)
