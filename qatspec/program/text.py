"""A Program as stable text, one op a line, for goldens and for people."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from qatspec.ir import Op, Port, Value
from qatspec.program.model import Program


def dump(program: Program) -> str:
    """The whole program; constants by their values when small, else by the head of their sha256."""
    march = program.march or "generic"
    arithmetic = f"{program.arithmetic.multiplier_bits} bits, {program.arithmetic.rounding}"
    if program.arithmetic.form != "single":
        arithmetic = f"{arithmetic}, {program.arithmetic.form}"
    lines = [f"program {program.name} march {march} ({arithmetic})"]
    lines += [f"in   {_port(port)}" for port in program.inputs]
    lines += [f"     {_op(program, op)}" for op in program.ops]
    lines += [f"out  {_port(port)}" for port in program.outputs]
    return "\n".join(lines) + "\n"


def _port(port: Port) -> str:
    along = "" if port.axis is None else f" along {port.axis}"
    return f"%{port.name}: {port.dtype}{_shape(port.shape)} {port.layout}{_real(port.scale)}{along}"


def _op(program: Program, op: Op) -> str:
    value = program.values[op.output]
    operands = ", ".join(_operand(program, name) for name in op.inputs)
    attrs = "".join(f" {key}={_attr(op.attrs[key])}" for key in sorted(op.attrs))
    scale = "" if value.scale is None else _real(value.scale)
    return f"%{op.output}: {_type(value)} = {op.kind}({operands}){attrs}{scale}{_origin(op)}"


def _operand(program: Program, name: str) -> str:
    array = program.consts.get(name)
    if array is None:
        return f"%{name}"
    if array.size <= 4:
        return f"{program.values[name].dtype}{array.reshape(-1).tolist()}"
    head = hashlib.sha256(array.tobytes()).hexdigest()[:8]
    return f"{_type(program.values[name])}#{head}"


def _type(value: Value) -> str:
    return f"{value.dtype}{_shape(value.shape)}"


def _shape(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})"


def _attr(value: Any) -> str:
    return f"({', '.join(map(str, value))})" if isinstance(value, (tuple, list)) else str(value)


def _real(scale: np.ndarray) -> str:
    first = np.format_float_scientific(scale[0], precision=6, unique=True)
    return f" scale {first}" if scale.size == 1 else f" scale {first}..x{scale.size}"


def _origin(op: Op) -> str:
    origin = f"{op.origin.module} {op.origin.source}".strip()
    return f"  # {origin}" if origin else ""
