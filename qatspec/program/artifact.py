"""Artifact: a compiled program for one march, as bytes with a manifest; it runs by itself.

File: `qatspec.program.container` with magic QSBIN. The manifest is the header.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qatspec.program.container import Damaged, pack, read_file, refusal, unpack, write_file
from qatspec.program.model import STORAGE, Port, Ported
from qatspec.program.ports import check_inputs
from qatspec.registry import registry

MAGIC = b"QSBIN\0"
VERSION = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Artifact(Ported):
    """march: who runs it. manifest: JSON: format, march, name, program (its digest), bit_exact,
    max_lsb, tree, and what the march adds; ports and sections are written into it by `to_bytes`.
    sections: the compiled bytes by name."""

    march: str
    manifest: Mapping[str, Any] = field(default_factory=dict)
    sections: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def tree(self) -> Any:
        """How the outputs nest; see `Program.tree`."""
        return self.manifest.get("tree")

    def run(self, *ints: np.ndarray) -> list[np.ndarray]:
        """Integers in, integers out, on the registered march. Raises DiagnosticError on arrays
        that do not fit (QS712) and on an unknown march."""
        arrays = check_inputs(self, ints)
        return registry().march(self.march).run(self, arrays)

    def to_bytes(self) -> bytes:
        """The file's bytes; equal artifacts give equal bytes."""
        header = {
            **self.manifest,
            "format": VERSION,
            "march": self.march,
            "inputs": [port_record(p) for p in self.inputs],
            "outputs": [port_record(p) for p in self.outputs],
        }
        return pack(MAGIC, VERSION, header, self.sections)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file at once: a reader sees the old file or the whole new one."""
        write_file(path, self.to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> Artifact:
        """Raises Damaged, whatever the bytes."""
        header, sections = unpack(MAGIC, VERSION, data)
        try:
            if not isinstance(header["march"], str):
                raise TypeError("its march is not a name")
            return cls(
                march=header["march"],
                inputs=tuple(port_of(r) for r in header["inputs"]),
                outputs=tuple(port_of(r) for r in header["outputs"]),
                manifest=header,
                sections=sections,
            )
        except (KeyError, TypeError, ValueError, OverflowError) as problem:
            raise Damaged(f"its manifest is broken ({problem})") from problem

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Artifact:
        """Read what `save` wrote. Raises DiagnosticError QS810 on a damaged or foreign file."""
        try:
            return cls.from_bytes(read_file(path, "QS810", "compiled file"))
        except Damaged as problem:
            raise refusal(path, "QS810", "compiled file", problem) from problem


def port_record(port: Port) -> dict[str, Any]:
    """A port as JSON, for manifests and metadata."""
    return {
        "name": port.name,
        "dtype": port.dtype,
        "shape": list(port.shape),
        "layout": port.layout,
        "scale": port.scale.tolist(),
        "axis": port.axis,
        "zero_point": port.zero_point,
    }


def port_of(record: Any) -> Port:
    """The port of a record. Raises KeyError, TypeError or ValueError on a broken one."""
    shape, scale, axis = record["shape"], record["scale"], record["axis"]
    if not all(type(d) is int and d > 0 for d in shape) or record["dtype"] not in STORAGE:
        raise ValueError("a port has no good shape or dtype")
    if not all(type(v) is float and 0 < v < float("inf") for v in scale):
        raise ValueError("a port has no good scale")
    if axis is not None and (type(axis) is not int or not 1 <= axis <= len(shape)):
        raise ValueError("a port's axis is none of its dims")
    if len(scale) != (1 if axis is None else shape[axis - 1]):
        raise ValueError("a port's scale does not fit its shape")
    if record["zero_point"] != 0 or not all(
        isinstance(record[key], str) for key in ("name", "layout")
    ):
        raise ValueError("a port has a zero point or no name")
    return Port(
        name=record["name"],
        dtype=record["dtype"],
        shape=tuple(shape),
        layout=record["layout"],
        scale=np.array(scale, np.float32),
        axis=axis,
    )
