"""Artifact: a compiled program for one march, as bytes with a manifest; it runs by itself.

File: `qatspec.program.container` with magic QSBIN. The manifest is the header.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from qatspec.diag.codes import QS810, QS811
from qatspec.files import write_file
from qatspec.ir import STORAGE, IntegerModel, Port, check_inputs
from qatspec.program.container import Damaged, pack, read_file, refusal, unpack
from qatspec.program.runtime_input import RuntimeInput
from qatspec.registry import registry

MAGIC = b"QSBIN\0"
VERSION = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Artifact(IntegerModel):
    """march: who runs it. manifest: JSON: format, march, name, program (its digest), bit_exact,
    max_lsb, tree, and what the march adds; ports and sections are written into it by `to_bytes`.
    sections: the compiled bytes by name. runtime_input: how what it is fed becomes the Program's
    integers, where `inputs` is not the Program's own."""

    march: str
    manifest: Mapping[str, Any] = field(default_factory=dict)
    sections: Mapping[str, bytes] = field(default_factory=dict)
    runtime_input: RuntimeInput | None = None

    @property
    def tree(self) -> Any:
        """How the outputs nest; see `Program.tree`."""
        return self.manifest.get("tree")

    def fed_with(self, runtime_input: RuntimeInput) -> Artifact:
        """Return the same compiled program, which is fed frames instead of its own integers.

        runtime_input: layout and colour format of the frames, and the conversion to integers.
        """
        return replace(self, inputs=(runtime_input.outside,), runtime_input=runtime_input)

    @property
    def real_inputs(self) -> tuple[Port, ...]:
        """The Program's own ports: images keep their form whatever the compiled file is fed."""
        return (self.runtime_input.port,) if self.runtime_input else self.inputs

    def quantize(self, *floats: np.ndarray) -> list[np.ndarray]:
        """Convert images to what the file is fed: integers, or frames as a camera would give them.

        floats: an array for each input port, float32 (N, C, H, W) on the scale that the model
        takes. Returns an array for each input. Raises ValueError on a wrong count.
        """
        if self.runtime_input is None:
            return super().quantize(*floats)
        (images,) = floats
        return [self.runtime_input.frame(images)]

    def feed(self, ints: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Convert what the file is fed to the Program's integers.

        ints: an array for each input, as `quantize` returns them. Returns an array for each port of
        the Program, (N, ...) in the port's dtype. Raises DiagnosticError QS712 on arrays that do
        not fit.
        """
        arrays = check_inputs(self, ints)
        return [self.runtime_input.integers(arrays[0])] if self.runtime_input else arrays

    def run(self, *ints: np.ndarray) -> list[np.ndarray]:
        """Run the file on the registered march.

        ints: an array for each input, as `quantize` returns them. Returns an integer array (N, ...)
        for each output port. Raises DiagnosticError on arrays that do not fit (QS712), on an
        unknown march, and on sections that are not its own (QS811).
        """
        arrays = self.feed(ints)
        march = registry().march(self.march)
        with registry().attribute_errors(march, f"march `{self.march}`, running a compiled file,"):
            try:
                return march.run(self, arrays)
            except Damaged as problem:  # a Program among the sections
                raise QS811.error(
                    f"not a program compiled for {self.march}: {problem}",
                    help="compile it again with `qatspec convert`",
                ) from problem

    def to_bytes(self) -> bytes:
        """Return the file's bytes; equal artifacts give equal bytes."""
        header = {
            **self.manifest,
            "format": VERSION,
            "march": self.march,
            "inputs": [port_record(p) for p in self.inputs],
            "outputs": [port_record(p) for p in self.outputs],
        }
        if self.image is not None:
            header["image"] = dict(self.image)
        fed = self.runtime_input
        if fed is not None:
            header["runtime_input"] = {**fed.record(), "port": port_record(fed.port)}
        return pack(MAGIC, VERSION, header, self.sections)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file at `path` at once: a reader sees the old file or the whole new one. Raises
        OSError."""
        write_file(path, self.to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> Artifact:
        """Return the artifact whose `to_bytes` gave `data`. Raises Damaged for any other
        bytes."""
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
                runtime_input=_runtime_input(header),
                image=None if "image" not in header else dict(header["image"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as problem:
            raise Damaged(f"its manifest is broken ({problem})") from problem

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Artifact:
        """Return the artifact that `save` wrote to `path`. Raises DiagnosticError QS810 on a
        damaged or foreign file."""
        try:
            return cls.from_bytes(read_file(path, QS810, "compiled file"))
        except Damaged as problem:
            raise refusal(path, QS810, "compiled file", problem) from problem


def _runtime_input(header: Mapping[str, Any]) -> RuntimeInput | None:
    """How a file is fed, by its manifest; its ports must say the same. Raises as `port_of`."""
    if "runtime_input" not in header:
        if any(port["dtype"] == "uint8" for port in header["inputs"]):
            raise ValueError("nothing says what its bytes mean")
        return None
    record = dict(header["runtime_input"])
    fed = RuntimeInput.of(record, port_of(record.pop("port")))
    if header["inputs"] != [port_record(fed.outside)]:
        raise ValueError("its port is not that of its runtime input")
    return fed


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
