"""Views: moves that are addresses. A concatenation, a range of channels or a reshape that keeps
rows and columns copies nothing: its result lies in the memory of another value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qatspec.backend.layers import Layer
from qatspec.backend.region import view
from qatspec.backend.target import Target
from qatspec.ir import Op
from qatspec.program import Program


@dataclass(frozen=True, slots=True)
class Home:
    """Channel 0 of a value lies at `channel` of the value `root`, which has memory of its own."""

    root: str
    channel: int = 0


def homes(
    layers: Sequence[Layer], program: Program, target: Target
) -> tuple[dict[str, Home], frozenset[int]]:
    """The home of every activation that leaves a layer or enters the Program, and the indices of
    the layers that are views.

    A view starts at a whole block of channels. The Program's ports keep memory of their own: the
    host writes and reads them as they are declared.
    """
    names = [port.name for port in program.inputs] + [layer.output for layer in layers]
    home_of = {name: Home(name) for name in names}
    outputs = {port.name for port in program.outputs}
    fixed = {port.name for port in (*program.inputs, *program.outputs)}
    views = set()
    for layer in layers:
        (op, *riders) = layer.ops
        if riders or layer.host or (layer.output in outputs and op.kind != "concat"):
            continue
        if _resolve(op, home_of, fixed, program, target.hardware.align_channels_in):
            views.add(layer.index)
    return home_of, frozenset(views)


def _resolve(
    op: Op, home_of: dict[str, Home], fixed: set[str], program: Program, block: int
) -> bool:
    """Give the result of `op`, or its operands, a home in the other. Returns whether it has one."""
    if op.kind == "concat":
        return _join(op, home_of, fixed, program, block)
    source, start = home_of.get(op.inputs[0]), 0
    if op.kind == "slice" and op.attrs["axis"] == 1 and op.attrs["step"] == 1:
        start = op.attrs["start"]
    elif op.kind != "reshape":
        return False
    shapes = [view(program.values[name].shape)[1:] for name in (op.inputs[0], op.output)]
    if source is None or shapes[0] != shapes[1] or (source.channel + start) % block:
        return False
    home_of[op.output] = Home(source.root, source.channel + start)
    return True


def _join(op: Op, home_of: dict[str, Home], fixed: set[str], program: Program, block: int) -> bool:
    """Put the roots of all operands of a concatenation of channels into its result, if each lies in
    it as a whole and once."""
    if op.attrs["axis"] != 1:
        return False
    bases: dict[str, int] = {}
    covered: dict[str, int] = {}
    offset = 0
    for name in op.inputs:
        home, channels = home_of[name], view(program.values[name].shape)[0]
        base = offset - home.channel
        if home.root in fixed or base % block or bases.setdefault(home.root, base) != base:
            return False
        covered[home.root] = covered.get(home.root, 0) + channels
        offset += channels
    if any(covered[root] != view(program.values[root].shape)[0] for root in bases):
        return False
    for name, home in home_of.items():
        if home.root in bases:
            home_of[name] = Home(op.output, bases[home.root] + home.channel)
    return True
