"""Programs as bytes: versioned, digested, the same bytes for the same program, and safe to load
whatever the file holds."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import astuple
from math import prod
from typing import Any

import numpy as np

from qatspec.diag.codes import QS710
from qatspec.files import write_file
from qatspec.ir import STORAGE, Op, Port, Provenance, Value
from qatspec.kinds import FORMS, LIMIT
from qatspec.program.container import Damaged, pack, read_file, refusal, unpack
from qatspec.program.model import Program
from qatspec.program.verify import check
from qatspec.types import Arithmetic

MAGIC = b"QSPRG\0"
VERSION = 2


def to_bytes(program: Program) -> bytes:
    """The program's file. Equal programs give equal bytes."""
    header = {
        "name": program.name,
        "march": program.march,
        **arithmetic_data(program.arithmetic),
        "inputs": [_port_data(p) for p in program.inputs],
        "outputs": [_port_data(p) for p in program.outputs],
        "values": [_value_data(v) for v in program.values.values()],
        "ops": [_op_data(op) for op in program.ops],
        "consts": list(program.consts),
        "tree": program.tree,
    }
    if program.image is not None:
        header["image"] = dict(program.image)
    data = b"".join(
        np.ascontiguousarray(c, np.dtype(c.dtype).newbyteorder("<")).tobytes()
        for c in program.consts.values()
    )
    return pack(MAGIC, VERSION, header, {"consts": data})


def from_bytes(data: bytes) -> Program:
    """The program of `data`, verified. Raises Damaged, or DiagnosticError where `verify` does."""
    header, sections = unpack(MAGIC, VERSION, data)
    try:
        return check(_program(header, sections["consts"]))
    except (KeyError, TypeError, ValueError, IndexError, OverflowError, RecursionError) as problem:
        raise Damaged(f"its header is not that of a program ({problem})") from problem


def digest(program: Program) -> str:
    """Compute the sha256 of the program's file. Returns it as hex."""
    return hashlib.sha256(to_bytes(program)).hexdigest()


def save_program(program: Program, path: str | os.PathLike[str]) -> None:
    """Write the program's file at once: a reader sees the old file or the whole new one."""
    write_file(path, to_bytes(program))


def load_program(path: str | os.PathLike[str]) -> Program:
    """Read what `save_program` wrote. Raises DiagnosticError (QS710, QS711, QS704)."""
    try:
        return from_bytes(read_file(path, QS710, "program file"))
    except Damaged as problem:
        raise refusal(path, QS710, "program file", problem) from problem


def arithmetic_data(arithmetic: Arithmetic) -> dict[str, Any]:
    """An Arithmetic as JSON. `fused_add` and `form` are written only where they differ from what
    files without them mean."""
    data: dict[str, Any] = {"arithmetic": [arithmetic.multiplier_bits, arithmetic.rounding]}
    if not arithmetic.fused_add:
        data["fused_add"] = False
    if arithmetic.form != "single":
        data["form"] = arithmetic.form
    return data


def arithmetic_of(header: Mapping[str, Any]) -> Arithmetic:
    """The Arithmetic of what `arithmetic_data` wrote. Raises KeyError, TypeError or ValueError."""
    bits, rounding = header["arithmetic"]
    fused_add = header.get("fused_add", True)
    if type(fused_add) is not bool:
        raise TypeError("`fused_add` is not true or false")
    form = header.get("form", "single")
    if form not in FORMS:
        raise ValueError(f"{form!r} is not a form of requantization")
    return Arithmetic(
        multiplier_bits=_integer(bits), rounding=_text(rounding), form=form, fused_add=fused_add
    )


def _port_data(port: Port) -> list[Any]:
    scale = port.scale.tolist()
    return [port.name, port.dtype, list(port.shape), port.layout, scale, port.axis]


def _value_data(value: Value) -> list[Any]:
    scale = None if value.scale is None else value.scale.tolist()
    return [value.name, value.dtype, list(value.shape), scale, value.axis]


def _op_data(op: Op) -> list[Any]:
    return [op.kind, list(op.inputs), op.output, dict(op.attrs), list(astuple(op.origin))]


def _program(header: Mapping[str, Any], data: bytes) -> Program:
    values = values_of(header["values"])
    march = header["march"]
    return Program(
        name=_text(header["name"]),
        march=None if march is None else _text(march),
        arithmetic=arithmetic_of(header),
        inputs=tuple(_port(p) for p in header["inputs"]),
        outputs=tuple(_port(p) for p in header["outputs"]),
        values=values,
        consts=_consts(header["consts"], values, data),
        ops=tuple(op_of(entry) for entry in header["ops"]),
        tree=header["tree"],
        image=None if "image" not in header else dict(header["image"]),
    )


def values_of(entries: Any) -> dict[str, Value]:
    """Values by name, of entries [name, dtype, shape, scale, axis]. Raises TypeError or
    ValueError, also where two have one name."""
    values: dict[str, Value] = {}
    for name, dtype, shape, scale, axis in entries:
        value = Value(
            name=_text(name),
            dtype=_dtype(dtype),
            shape=_dims(shape),
            scale=None if scale is None else _floats(scale),
            axis=_axis(axis),
        )
        if values.setdefault(value.name, value) is not value:
            raise ValueError(f"value {value.name!r} is declared twice")
    return values


def _consts(names: Any, values: Mapping[str, Value], data: bytes) -> dict[str, np.ndarray]:
    consts, at = {}, 0
    for name in names:
        value = values[_text(name)]
        dtype = np.dtype(STORAGE[value.dtype])
        count = prod(value.shape)
        array = np.frombuffer(data, dtype.newbyteorder("<"), count, at)
        consts[value.name] = array.astype(dtype).reshape(value.shape)
        at += count * dtype.itemsize
    if at != len(data):
        raise ValueError("constants do not fill their section")
    return consts


def _port(entry: Any) -> Port:
    name, dtype, shape, layout, scale, axis = entry
    return Port(
        name=_text(name),
        dtype=_dtype(dtype),
        shape=_dims(shape),
        layout=_text(layout),
        scale=_floats(scale),
        axis=_axis(axis),
    )


def op_of(entry: Any) -> Op:
    """The Op of an entry [kind, inputs, output, attrs, origin]. Raises TypeError or ValueError."""
    kind, inputs, output, attrs, origin = entry
    if not isinstance(attrs, dict):
        raise TypeError("attributes must be a mapping")
    module, node, source, rule, name = (_text(o) for o in origin)
    return Op(
        kind=_text(kind),
        inputs=tuple(_text(i) for i in inputs),
        output=_text(output),
        attrs={_text(k): tuple(v) if isinstance(v, list) else v for k, v in attrs.items()},
        origin=Provenance(module=module, node=node, source=source, rule=rule, op=name),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is not an integer")
    return value


def _axis(value: Any) -> int | None:
    return None if value is None else _integer(value)


def _dtype(value: Any) -> Any:
    if value not in STORAGE:
        raise ValueError(f"{value!r} is not a dtype")
    return value


def _dims(value: Any) -> tuple[int, ...]:
    dims = tuple(_integer(d) for d in value)
    if any(d < 1 for d in dims) or prod(dims) > LIMIT:
        raise ValueError(f"shape {dims} is empty or too large")
    return dims


def _floats(value: Any) -> np.ndarray:
    if not isinstance(value, list) or any(type(v) is not float for v in value):
        raise TypeError("scales must be real numbers")
    with np.errstate(over="ignore"):  # verify refuses infinity
        return np.array(value, np.float64).astype(np.float32)
