"""Which values have one number of channels, and who decides it."""

from __future__ import annotations

from dataclasses import dataclass, field

from qatspec.ir import Op
from qatspec.kinds import Trait, has
from qatspec.program import Program


@dataclass(slots=True)
class Width:
    """Values with one number of channels. producers: ops with weights that decide it; fixed:
    something else decides it as well."""

    width: int
    values: set[str] = field(default_factory=set)
    producers: list[Op] = field(default_factory=list)
    fixed: bool = False


class Channels:
    """Values whose channels are tied: those on both sides of an op that works on each channel
    alone."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._parent: dict[str, str] = {}
        fixed: set[str] = {p.name for p in (*program.inputs, *program.outputs)}
        producers: list[Op] = []
        for op in program.ops:
            sources = [n for n in op.inputs if n not in program.consts]
            if has(op, Trait.WEIGHTED):
                if alone(op, program):
                    self._tie(op.output, sources[0])
                else:
                    producers.append(op)
                continue
            moves = has(op, Trait.REARRANGES) or has(op, Trait.LAST_TWO_DIMS)
            if moves or op.kind == "concat" or op.kind == "argmax":
                moves_channels = op.kind == "concat" and op.attrs["axis"] == 1
                flattens = op.kind == "reshape" and len(op.attrs["shape"]) == 1
                fixed.add(op.output)
                if not moves_channels and not flattens:
                    fixed.update(sources)
                continue
            for name in sources:
                if self._channels(name) == self._channels(op.output):
                    self._tie(op.output, name)
        first: dict[str, str] = {}
        for op in producers:  # a module that is called several times has one number of channels
            if op.origin.module:
                self._tie(op.output, first.setdefault(op.origin.module, op.output))
        self.all: dict[str, Width] = {}
        for name in (*(p.name for p in program.inputs), *(op.output for op in program.ops)):
            root = self._root(name)
            width = self._channels(root)
            one = self.all.setdefault(root, Width(width))
            one.values.add(name)
            one.fixed |= name in fixed or len(program.values[name].shape) not in (1, 3)
        for op in producers:
            self.all[self._root(op.output)].producers.append(op)

    def of(self, value: str) -> Width:
        """The class of a value."""
        return self.all[self._root(value)]

    def _channels(self, name: str) -> int:
        shape = self.program.values[name].shape
        return shape[0] if shape else 1

    def _root(self, name: str) -> str:
        while (parent := self._parent.get(name, name)) != name:
            name = parent
        return name

    def _tie(self, a: str, b: str) -> None:
        self._parent[self._root(a)] = self._root(b)


def alone(op: Op, program: Program) -> bool:
    """Return whether a convolution works on each channel alone and keeps their number."""
    if op.kind == "linear":
        return False
    channels = program.values[op.inputs[0]].shape[0]
    return bool(op.attrs["groups"] == channels and program.values[op.output].shape[0] == channels)
