"""A Program as real numbers between QuantizeLinear and DequantizeLinear, in standard ONNX ops, for
compilers and runtimes that find integer kernels in such a graph themselves."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from qatspec.export.converted import OPSET, described_image, rounded_values
from qatspec.export.real.emitter import RealEmitter
from qatspec.ir import RANGE, STORAGE, Port, Value
from qatspec.onnxgraph import BATCH, GraphWriter
from qatspec.program import Program, digest


def to_qdq_onnx(
    program: Program,
    path: str | os.PathLike[str],
    *,
    unsigned: bool = True,
    node_units: bool = False,
    batch: int | None = None,
    layers: bool = False,
) -> None:
    """Write a Program as a Q/DQ ONNX with the Program's integers as inputs and outputs.

    Each op computes with real numbers; a value of 8 bits or less is rounded to its integers behind
    the op that makes it. Sums that no op rounds stay real. What a runtime makes of the graph may
    differ from the Program where a result lies close to a half.

    program   the Program.
    path      the file to write.
    unsigned  True: int8 and int4 are written as uint8 with zero point 128. False: as int8 with zero
              point 0; uint8 stays uint8.
    node_units  True: an op between a DequantizeLinear and a QuantizeLinear is alone there, as
              compilers want it that match such units: a clamp is between two roundings, and
              layers whose sums no op rounds have real weights.
    batch     images a run; None: any number.
    layers    whether `rounded_values` are outputs as well, behind those of the Program.

    `qdq_feeds` makes the file's inputs of integers, `qdq_integers` integers of its outputs.
    """
    writer = GraphWriter(program.name)
    emitter = RealEmitter(program, writer, OPSET, unsigned, node_units)
    for port in program.inputs:
        dtype = np.uint8 if emitter.zero_point(port.name) else STORAGE[port.dtype]
        emitter.begin(port.name, writer.input(port.name, dtype, [batch or BATCH, *port.shape]))
    for op in program.ops:
        before = len(writer.nodes)
        emitter.emit(op)
        for node in writer.nodes[before:]:
            node.doc_string = " ".join(p for p in (op.origin.module, op.origin.source) if p)
    for port in program.outputs:
        result, dtype = emitter.result(port.name, port.scale, port.axis)
        writer.output(result, port.name, dtype, [batch or BATCH, *port.shape])
    for name in rounded_values(program) * layers:
        shape = [batch or BATCH, *program.values[name].shape]
        result, dtype = emitter.result(name, None, None)
        writer.output(result, name, dtype, shape)
    writer.drop_unread("DequantizeLinear")
    readable = {} if program.image is None else described_image(program.image)
    made_from = {"march": program.march or "generic", "program": digest(program)}
    writer.write(path, OPSET, {**made_from, **readable})


def qdq_feeds(
    ports: Sequence[Port], ints: Sequence[np.ndarray], *, unsigned: bool = True
) -> list[np.ndarray]:
    """Return what a file by `to_qdq_onnx` takes for integers of a Program's input ports.

    ports     the Program's inputs.
    ints      an array (N, ...) for each, in its dtype.
    unsigned  as the file was written.
    """
    return [
        (x.astype(np.int16) + 128).astype(np.uint8)
        if unsigned and port.dtype in ("int8", "int4")
        else x
        for port, x in zip(ports, ints, strict=True)
    ]


def qdq_integers(values: Sequence[Port | Value], arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return a Program's integers for results of a file by `to_qdq_onnx`.

    values  the Program's outputs, or the values of `rounded_values`.
    arrays  an array (N, ...) for each, as the file gives it: integers, or real numbers of sums.
    """
    return [_integers(value, x) for value, x in zip(values, arrays, strict=True)]


def _integers(value: Port | Value, x: np.ndarray) -> np.ndarray:
    if x.dtype.kind != "f":
        shift = 128 if x.dtype == np.uint8 and value.dtype in ("int8", "int4") else 0
        return np.asarray((x.astype(np.int64) - shift).astype(STORAGE[value.dtype]))
    scale = np.ones(1) if value.scale is None else value.scale.astype(np.float64)
    if value.axis is not None and scale.size > 1:
        scale = scale.reshape([-1 if d == value.axis else 1 for d in range(x.ndim)])
    integers = np.clip(np.rint(x.astype(np.float64) / scale), *RANGE[value.dtype])
    return np.asarray(integers.astype(STORAGE[value.dtype]))
