"""Checkpoint files without torch: their names, their sha256 sidecars, and what they say of the
training that wrote them.

`plan` says where a training will resume, and `run` resumes there: both read the same headers.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import pickletools
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qatspec.files import open_file, read_file

SUFFIX = ".pth.tar"
#: A header is a few kilobytes for each hundred tensors; more is not a checkpoint of ours.
_LARGEST_HEADER = 64 << 20
_LARGEST_SIDECAR = 64 << 10


def checkpoint_path(folder: Path, stage: str, which: str) -> Path:
    """`<folder>/<stage>-checkpoint-<which>.pth.tar`; which: epoch-0008, step-N, last or best."""
    return folder / f"{stage}-checkpoint-{which}{SUFFIX}"


def checkpoint_files(folder: Path, stage: str) -> list[Path]:
    """Every checkpoint of a stage in `folder`, by name."""
    return sorted(folder.glob(f"{stage}-checkpoint-*{SUFFIX}"))


def sidecar(path: Path) -> Path:
    """The file beside a checkpoint that holds its sha256, as `sha256sum` writes it."""
    return path.with_name(path.name + ".sha256")


def known_digests(path: Path) -> list[str]:
    """The sha256 digests in the sidecar of `path`; none where there is no sidecar, or no digest in
    it."""
    try:
        text = read_file(sidecar(path), _LARGEST_SIDECAR).decode("utf-8", "replace")
    except OSError:
        return []
    return re.findall(r"^([0-9a-f]{64})\b", text, re.MULTILINE)


def sha256_of(path: Path) -> str:
    """The sha256 of a regular file, in hex. Raises OSError."""
    digest = hashlib.sha256()
    with open_file(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def is_intact(path: Path) -> bool:
    """Return whether a checkpoint is the one that its sidecar knows. Where the sidecar is missing,
    the checksums inside the archive decide."""
    try:
        if known := known_digests(path):
            return sha256_of(path) in known
        with open_file(path) as file, zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except Exception:  # noqa: BLE001  damaged archives raise errors of many kinds
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a checkpoint file says of its training (see `train.checkpoint.Checkpoint`). batch:
    batches of epoch number `epoch` that are done; digest: of the step; evaluation: of what judged
    it; unfinished: a signal interrupted the validation of its weights, so that `metrics` are of
    earlier ones."""

    path: Path
    stage: str
    epoch: int
    step: int
    batch: int
    digest: str
    evaluation: str
    march: str
    metrics: Mapping[str, float]
    best: float | None
    best_metrics: Mapping[str, float]
    unfinished: bool = False

    @property
    def which(self) -> str:
        """epoch-0008, step-N, last or best."""
        return self.path.name.removesuffix(SUFFIX).partition("-checkpoint-")[2]


def read_header(path: Path) -> Header | None:
    """The header of a checkpoint, read without torch and without its tensors; None where the file
    is none, or is damaged."""
    try:
        content = _read_plain(path)
        return Header(
            path=path,
            stage=str(content["stage"]),
            epoch=int(content["epoch"]),
            step=int(content["step"]),
            batch=int(content["sampler"].get("batch", 0)),
            digest=str(content["digests"].get("step", "")),
            evaluation=str(content["digests"].get("evaluation", "")),
            march=str(content["march"]),
            metrics=dict(content["metrics"]),
            best=content["best"],
            best_metrics=dict(content["best_metrics"]),
            unfinished="unfinished" in content["sampler"],
        )
    except Exception:  # noqa: BLE001  the unpickler may raise anything of damaged bytes
        return None


def demand_stored(archive: zipfile.ZipFile) -> None:
    """Raise ValueError where an entry is compressed. torch.save compresses nothing, and a small
    compressed file may expand to more than the memory."""
    for entry in archive.infolist():
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise ValueError(
                f"its entry `{entry.filename}` is compressed, which torch.save never does"
            )


def _read_plain(path: Path) -> Any:
    with open_file(path) as stored, zipfile.ZipFile(stored) as archive:
        demand_stored(archive)
        name = next(n for n in archive.namelist() if n.endswith("/data.pkl"))
        if archive.getinfo(name).file_size > _LARGEST_HEADER:
            raise ValueError(f"{name} is too large")
        content = archive.read(name)
    _demand_bounded(content)
    return _PlainUnpickler(io.BytesIO(content)).load()


def _demand_bounded(content: bytes) -> None:
    """Raise ValueError where a pickle asks for more memory than its own size explains: lengths are
    held against the bytes that follow, and places of the memo, which is an array, against all."""
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name.endswith("PUT") and int(argument or 0) > len(content):
            raise ValueError("it numbers an object beyond what it can hold")


class _PlainUnpickler(pickle.Unpickler):
    """Plain data, with an empty mapping in place of every tensor and class. It runs no code from
    the file."""

    def find_class(self, module: str, name: str) -> Any:
        return _Omitted

    def persistent_load(self, pid: Any) -> Any:
        return None


class _Omitted(dict[Any, Any]):
    def __init__(self, *arguments: Any) -> None:
        super().__init__()
