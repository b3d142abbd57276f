"""to_onnx: a Program as standard ONNX ops, integers in, integers out, equal to the interpreter.

How each op is written: the folders of `qatspec.kinds`. Scales, march and provenance are in the
metadata and the nodes' doc strings.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from qatspec.diag.codes import QS720
from qatspec.export.fast import FastEmitter
from qatspec.export.saturation import saturating
from qatspec.ir import STORAGE, Op, Port
from qatspec.kinds import BYTES, KINDS, Trait, has
from qatspec.kinds.emitter import Emitter
from qatspec.onnxgraph import BATCH, GraphWriter
from qatspec.program import Program, digest
from qatspec.program.artifact import port_record
from qatspec.spec import INPUTS

OPSET = 17
FORMAT = 1
METADATA = "qatspec"


def to_onnx(
    program: Program,
    path: str | os.PathLike[str],
    *,
    opset: int | None = None,
    exact: bool = True,
    batch: int | None = None,
    layers: bool = False,
) -> None:
    """Write the converted integer ONNX. It loads in onnxruntime without custom ops.

    program  the Program.
    path     the file to write.
    opset    None: 17, the least that holds a Program.
    exact    True: equal to the Program, integer for integer. False: in onnxruntime's fast kernels,
             where a result close to a half may be one integer away (qatspec.export.fast).
    batch    images a run; None: any number.
    layers   whether `rounded_values` are outputs as well, behind those of the Program.

    Raises DiagnosticError QS720 for an opset below 17.
    """
    opset = opset or OPSET
    if opset < OPSET:
        raise QS720.error(
            f"opset {opset} cannot hold a converted program, it needs {OPSET}",
            help="leave the opset out, or raise it",
        )
    writer = GraphWriter(program.name)
    emitter = (Exact if exact else FastEmitter)(program, writer, opset)
    for port in program.inputs:
        emitter.names[port.name] = writer.input(
            port.name, STORAGE[port.dtype], [batch or BATCH, *port.shape]
        )
    for op in program.ops:
        _emit(emitter, op)
    for name in (*(port.name for port in program.outputs), *rounded_values(program) * layers):
        value = program.values[name]
        shape = [batch or BATCH, *value.shape]
        writer.output(emitter.signed(name), name, STORAGE[value.dtype], shape)
    record = {
        "format": FORMAT,
        "name": program.name,
        "march": program.march,
        "program": digest(program),
        "inputs": [port_record(p) for p in program.inputs],
        "outputs": [port_record(p) for p in program.outputs],
        "tree": program.tree,
    }
    if program.image is not None:
        record["image"] = program.image
    if not exact:
        record["saturating"] = saturating(
            {
                op.origin.module or op.output: program.consts[op.inputs[1]]
                for op in program.ops
                if has(op, Trait.BYTE_KERNEL)
            }
        )
    readable = {"march": program.march or "generic"}
    for way, ports in (("input", program.inputs), ("output", program.outputs)):
        readable |= {f"{way}.{index}": _described(port) for index, port in enumerate(ports)}
    if program.image is not None:
        readable |= described_image(program.image)
    writer.write(path, opset, {METADATA: json.dumps(record, sort_keys=True), **readable})


def rounded_values(program: Program) -> list[str]:
    """Return the names of the results that a requantization rounds to 8 bits, in order.

    program  the Program.
    """
    ops = (op for op in program.ops if op.kind == "requant")
    return [op.output for op in ops if program.values[op.output].dtype in BYTES]


class Exact(Emitter):
    """Every op as its kind writes it."""

    def signed(self, name: str) -> str:
        """A value as the Program has it."""
        return self.names[name]

    def emit(self, op: Op) -> None:
        """Write one op."""
        self.names[op.output] = KINDS[op.kind].onnx(self, op)


def described_image(image: Mapping[str, Any]) -> dict[str, str]:
    """How pictures become the inputs (qatspec.spec.preprocessing), for people: under "image", or
    with named inputs under "image.NAME"."""
    if INPUTS not in image:
        return {"image": _picture(image)}
    named = image[INPUTS].items()
    return {f"image.{name}": _picture(form) for name, form in named if "size" in form}


def _picture(image: Mapping[str, Any]) -> str:
    height, width = image["size"]
    mean, std = (" ".join(f"{number:g}" for number in image[key]) for key in ("mean", "std"))
    fit = f", {image['resize']}" if "resize" in image else ""
    if "crop" in image:
        fit = f", centre crop of {image['crop']:g}"
    return f"{image['format']} {width} x {height}{fit}; (pixel - {mean}) / {std}"


def _described(port: Port) -> str:
    """A port for people who open the file in Netron; programs read the record."""
    scales = [f"{scale:.9g}" for scale in port.scale.tolist()]
    along = "" if len(scales) == 1 else f" along axis {port.axis}:"
    return f"{port.name}: {port.dtype} {port.layout}, scale{along} {' '.join(scales)}"


def _emit(emitter: Exact | FastEmitter, op: Op) -> None:
    """Write one op, every node of it with the op's provenance."""
    before = len(emitter.graph.nodes)
    emitter.emit(op)
    origin = op.origin
    doc = " ".join(p for p in (origin.module, origin.source, origin.rule) if p)
    for node in emitter.graph.nodes[before:]:
        node.doc_string = doc
