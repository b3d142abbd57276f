"""Check that a Program is well-formed: SSA, kinds, dtypes, shapes, scales, ports, proven bounds."""

from __future__ import annotations

from typing import Any

import numpy as np

from qatspec.diag import Diagnostic, DiagnosticError
from qatspec.diag.codes import QS704, QS711
from qatspec.ir import (
    CONSTANT,
    ORDERED,
    RANGE,
    STORAGE,
    Interval,
    Op,
    Overflow,
    Port,
    Value,
    interval,
    is_constant,
)
from qatspec.kinds import Malformed, infer, op_range
from qatspec.program.model import Program


def verify(program: Program) -> list[Diagnostic]:
    """What is wrong with `program` (QS711, QS704); empty: it runs everywhere and never overflows.

    Ops after the first broken one are not looked at: their operands are unknown.
    """
    problems = [_malformed(p) for p in (*_consts(program), *_ports(program), *_scales(program))]
    if not problems:
        problems = _ops(program)
    if not problems:
        problems = [_malformed(p) for p in _tree(program.tree, len(program.outputs))]
    return problems


def check(program: Program) -> Program:
    """`program` itself. Raises DiagnosticError with what `verify` finds."""
    problems = verify(program)
    if problems:
        raise DiagnosticError(problems)
    return program


def _malformed(problem: str) -> Diagnostic:
    return QS711.diagnostic(problem, help="make the program again by `convert`")


def _consts(program: Program) -> list[str]:
    problems = []
    for name, array in program.consts.items():
        value = program.values.get(name)
        if value is None or value.shape != array.shape or array.dtype != STORAGE[value.dtype]:
            problems.append(f"constant `{name}` does not match its declaration")
        elif array.size == 0:
            problems.append(f"constant `{name}` is empty")
        elif value.dtype == "int4" and (array.min() < -8 or array.max() > 7):
            problems.append(f"constant `{name}` leaves int4")
    return problems


def _ports(program: Program) -> list[str]:
    problems = []
    if not program.inputs or not program.outputs:
        problems.append("the program has no inputs or no outputs")
    for kind, ports in (("input", program.inputs), ("output", program.outputs)):
        if len({p.name for p in ports}) != len(ports):
            problems.append(f"two {kind} ports have one name")
        for port in ports:
            value = program.values.get(port.name)
            if value is None or (value.dtype, value.shape) != (port.dtype, port.shape):
                problems.append(f"{kind} port `{port.name}` does not match its value")
            problems += _scale(f"{kind} port", port, port.scale)
            if port.zero_point != 0:
                problems.append(f"{kind} port `{port.name}` has a zero point")
    return problems


def _scales(program: Program) -> list[str]:
    return [
        problem
        for value in program.values.values()
        if value.scale is not None
        for problem in _scale("value", value, value.scale)
    ]


def _scale(kind: str, owner: Value | Port, scale: np.ndarray) -> list[str]:
    size = 1
    if owner.axis is not None:
        if not 1 <= owner.axis <= len(owner.shape):
            return [f"{kind} `{owner.name}` has no dim {owner.axis}"]
        size = owner.shape[owner.axis - 1]
    if scale.dtype != np.float32 or scale.shape != (size,):
        return [f"{kind} `{owner.name}` needs {size} float32 scales"]
    if not (np.isfinite(scale) & (scale > 0)).all():
        return [f"{kind} `{owner.name}` has a scale that is not positive and finite"]
    return []


def _ops(program: Program) -> list[Diagnostic]:
    known: dict[str, Interval] = {p.name: interval(*RANGE[p.dtype]) for p in program.inputs}
    for name, array in program.consts.items():
        if name in known:
            return [_malformed(f"`{name}` is both an input and a constant")]
        known[name] = interval(int(array.min()), int(array.max()))
    for op in program.ops:
        problem = _op(program, op, known)
        if problem is not None:
            return [problem]
    lost = [p.name for p in program.outputs if p.name not in known]
    lost += [name for name in program.values if name not in known]
    return [_malformed(f"`{name}` is never defined") for name in dict.fromkeys(lost)]


def _op(program: Program, op: Op, known: dict[str, Interval]) -> Diagnostic | None:
    for name in op.inputs:
        if name not in known:
            return _malformed(f"`{op.output}` uses `{name}`, which is not defined before it")
    declared = program.values.get(op.output)
    if op.output in known or declared is None:
        return _malformed(f"`{op.output}` is defined twice or not declared")
    if not op.inputs:
        return _malformed(f"`{op.output}` has no operands")
    try:
        operands = [program.values[name] for name in op.inputs]
        dtype, shape = infer(op, operands, program.consts)
        if (dtype, shape) != (declared.dtype, declared.shape):
            raise Malformed(f"is declared {declared.dtype}{declared.shape}, gives {dtype}{shape}")
        intervals = [known[name] for name in op.inputs]
        known[op.output] = op_range(op, intervals, operands[0].shape, program.consts)
    except Malformed as problem:
        return _malformed(f"{op.kind} `{op.output}`: {problem}")
    except Overflow as problem:
        where = f" of module `{op.origin.module}`" if op.origin.module else ""
        return QS704.diagnostic(
            f"{op.kind} `{op.output}`{where}: {problem}",
            help="use fewer bits for the weight or the activation of this module",
        )
    return None


def _branch(pair: Any) -> Any:
    """The tree of a key, of a dict that keeps its order; None where it is no such pair."""
    if not isinstance(pair, list) or len(pair) != 2 or not is_constant(pair[0]):
        return None
    return pair[1] if isinstance(pair[0][CONSTANT], str) else None


def _tree(tree: Any, outputs: int, depth: int = 0) -> list[str]:
    if depth > 32:
        return ["the output tree is nested too deeply"]
    if is_constant(tree):
        value = tree[CONSTANT]
        plain = value is None or isinstance(value, (bool, int, float, str))
        return [] if plain else [f"the output tree holds {value!r}, which is no constant"]
    if isinstance(tree, dict) and set(tree) == {ORDERED}:
        branches = list(map(_branch, tree[ORDERED])) if isinstance(tree[ORDERED], list) else [None]
    elif isinstance(tree, dict):
        branches = list(tree.values()) if all(isinstance(k, str) for k in tree) else [None]
    elif isinstance(tree, list):
        branches = tree
    elif type(tree) is int and 0 <= tree < outputs:
        return []
    else:
        return [f"the output tree names `{tree!r}`, which is not an output"]
    return [problem for branch in branches for problem in _tree(branch, outputs, depth + 1)]
