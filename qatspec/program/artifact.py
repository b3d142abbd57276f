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
    """A compiled Program, as a `.bin` file holds it.

    inputs         ports of what it is fed; outputs: ports of what it returns.
    march          name of the march that runs it.
    manifest       JSON: format, march, name, program (its digest), bit_exact, max_lsb (largest
                   distance to the Program, in integers), tree, and what the march adds; ports and
                   sections are written into it by `to_bytes`.
    sections       the compiled bytes by name.
    runtime_inputs how what it is fed becomes the Program's integers, for each of `inputs` that is
                   not the Program's own.
    """

    march: str
    manifest: Mapping[str, Any] = field(default_factory=dict)
    sections: Mapping[str, bytes] = field(default_factory=dict)
    runtime_inputs: tuple[RuntimeInput, ...] = ()

    @property
    def tree(self) -> Any:
        """How the outputs nest; see `Program.tree`."""
        return self.manifest.get("tree")

    @property
    def runtime_input(self) -> RuntimeInput | None:
        """How frames become the integers of the only port that is fed them; None where none is.
        Raises ValueError where several are."""
        if len(self.runtime_inputs) > 1:
            raise ValueError("several inputs are fed frames: see `runtime_inputs`")
        return next(iter(self.runtime_inputs), None)

    def fed_with(self, *runtime_inputs: RuntimeInput) -> Artifact:
        """Return the same compiled program, which is fed frames instead of its own integers.

        runtime_inputs: layout and colour format of the frames of each port that is fed them, and
        the conversion to its integers.
        """
        outside = {fed.port.name: fed.outside for fed in runtime_inputs}
        inputs = tuple(outside.get(port.name, port) for port in self.inputs)
        return replace(self, inputs=inputs, runtime_inputs=runtime_inputs)

    @property
    def real_inputs(self) -> tuple[Port, ...]:
        """The Program's own ports: images keep their form whatever the compiled file is fed."""
        fed_ports = {fed.port.name: fed.port for fed in self.runtime_inputs}
        return tuple(fed_ports.get(port.name, port) for port in self.inputs)

    def quantize(self, *floats: np.ndarray) -> list[np.ndarray]:
        """Convert images to what the file is fed: integers, or frames as a camera would give them.

        floats: an array for each input port, float32 (N, C, H, W) on the scale that the model
        takes. Returns an array for each input. Raises ValueError on a wrong count.
        """
        fed = self._fed()
        pairs = zip(self.inputs, floats, strict=True)
        return [f.frame(x) if (f := fed.get(port.name)) else port.quantize(x) for port, x in pairs]

    def feed(self, ints: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Convert what the file is fed to the Program's integers.

        ints: an array for each input, as `quantize` returns them. Returns an array for each port of
        the Program, (N, ...) in the port's dtype. Raises DiagnosticError QS712 on arrays that do
        not fit.
        """
        arrays = check_inputs(self, ints)
        fed = self._fed()
        pairs = zip(self.inputs, arrays, strict=True)
        return [f.integers(x) if (f := fed.get(port.name)) else x for port, x in pairs]

    def _fed(self) -> dict[str, RuntimeInput]:
        return {fed.port.name: fed for fed in self.runtime_inputs}

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
        fed = [{**f.record(), "port": port_record(f.port)} for f in self.runtime_inputs]
        if len(fed) == 1:
            header["runtime_input"] = fed[0]
        elif fed:
            header["runtime_inputs"] = fed
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
                runtime_inputs=_runtime_inputs(header),
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


def _runtime_inputs(header: Mapping[str, Any]) -> tuple[RuntimeInput, ...]:
    """How a file is fed, by its manifest; its ports must say the same. Raises as `port_of`."""
    records = [header["runtime_input"]] if "runtime_input" in header else []
    records += header.get("runtime_inputs", [])
    fed_inputs = []
    for entry in records:
        record = dict(entry)
        fed_inputs.append(RuntimeInput.of(record, port_of(record.pop("port"))))
    outside = {fed.port.name: port_record(fed.outside) for fed in fed_inputs}
    names = [port["name"] for port in header["inputs"]]
    if len(outside) != len(fed_inputs) or not set(outside) <= set(names):
        raise ValueError("its runtime inputs are not those of its ports")
    for port in header["inputs"]:
        if port["name"] not in outside and port["dtype"] == "uint8":
            raise ValueError("nothing says what its bytes mean")
        if outside.get(port["name"], port) != port:
            raise ValueError("its port is not that of its runtime input")
    return tuple(fed_inputs)


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
