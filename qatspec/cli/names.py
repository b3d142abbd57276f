"""Names of the files that `infer` writes: one for each input, and none of a file that is not its
own."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from qatspec.cli.outputs import in_the_way
from qatspec.files import open_file, read_json
from qatspec.train.files import cannot_write

PREDICTIONS = "predictions.json"
NOT_OWN = "`qatspec infer` has not written it"
FORMAT = 1

#: How names of the files of one input end.
_ENDS = (".png", "-mask.png", ".npz")
#: Bytes of a name before its end; file systems take 255.
_MAX_NAME = 230
_MAX_PREDICTIONS = 1 << 30


class OutputNames:
    """Names in `folder`, compared without case, as some file systems do.

    Files that an earlier `infer` wrote there are replaced: its predictions.json names them. All
    others stay, among them the inputs where they lie in the same folder.

    Raises DiagnosticError: QS906 where predictions.json is of another origin, QS903 where there
    cannot be such a folder.
    """

    def __init__(self, folder: Path) -> None:
        earlier = {name for base in _earlier(folder / PREDICTIONS) for name in _files(base)}
        there = {p.name.casefold() for p in folder.iterdir()} if folder.is_dir() else set()
        self._taken = there - earlier

    def name_for(self, source: Path) -> str:
        """Return the name of the files of one more input, without a suffix: the input's stem; where
        that is taken, with the input's suffix and a number."""
        name = next(n for n in _candidates(source) if not _files(n) & self._taken)
        self._taken |= _files(name)
        return name


def demand_own_integers(path: Path, ports: Sequence[str]) -> None:
    """Refuse to replace a file other than the integers of a model's ports, as `infer` writes them.

    Raises DiagnosticError QS906.
    """
    if not path.exists():
        return
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as arrays:
            holds_all_ports = set(arrays.namelist()) == {f"{port}.npy" for port in ports}
    except (OSError, zipfile.BadZipFile):
        holds_all_ports = False
    if not holds_all_ports:
        raise in_the_way(path, NOT_OWN, "move it away, or choose another folder with --output")


def _candidates(source: Path) -> Iterator[str]:
    stem = os.fsencode(source.stem)[:_MAX_NAME].decode(errors="ignore")
    yield stem
    with_suffix = "-".join(filter(None, (stem, source.suffix.lstrip("."))))
    yield with_suffix
    number = 2
    while True:
        yield f"{with_suffix}-{number}"
        number += 1


def _files(name: str) -> set[str]:
    return {f"{name}{end}".casefold() for end in _ENDS}


def _earlier(path: Path) -> list[str]:
    """Names that the predictions.json of an earlier run gave its inputs."""
    try:
        content: Any = read_json(path, _MAX_PREDICTIONS)
        if content["format"] == FORMAT and "model" in content:
            return [e.get("output", Path(e["input"]).stem) for e in content["predictions"]]
    except FileNotFoundError:
        return []
    except OSError as error:
        if not path.exists():  # a part of its path is a file, or a loop of links
            raise cannot_write(path, error) from error
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise in_the_way(path, NOT_OWN, "move it away, or choose another folder with --output")
