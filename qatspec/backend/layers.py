"""Layers: what the chip runs as one. An op that accumulates and the requantization, clamp or table
behind it never leave the core in between, so they are tiled, loaded and stored together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from qatspec.backend.target import Target
from qatspec.ir import Op
from qatspec.kinds import Trait, has
from qatspec.program import Program


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """ops in execution order, the first is the anchor; inputs: activations from outside, in order
    of first use; consts likewise; output: the one value that leaves; host: whether the CPU beside
    the chip runs it."""

    index: int
    name: str
    ops: tuple[Op, ...]
    inputs: tuple[str, ...]
    consts: tuple[str, ...]
    output: str
    host: bool = False


def group(program: Program, target: Target) -> tuple[Layer, ...]:
    """The layers of `program`, in execution order.

    What the march leaves to the CPU is a layer of its own with what alone reads its result there. A
    rider joins the op before it if nobody else reads what lies between, and if it is not yet part
    of another layer (two convolutions summed by one requantization: the first takes it, the second
    hands over its accumulator). A layer runs where its last op stood, when all inputs are there.
    """
    readers: dict[str, list[int]] = {}
    for index, op in enumerate(program.ops):
        for name in op.inputs:
            readers.setdefault(name, []).append(index)
    ports = {port.name for port in program.outputs}
    taken: set[int] = set()
    chains: list[list[int]] = []
    for index in range(len(program.ops)):
        if index in taken:
            continue
        chain = [index]
        while (rider := _rider(program, target, chain[-1], readers, ports)) is not None:
            if rider in taken:
                break
            chain.append(rider)
        taken.update(chain)
        chains.append(chain)
    chains.sort(key=lambda chain: chain[-1])
    return layers_of(program, target, chains)


def layers_of(
    program: Program, target: Target, chains: Sequence[Sequence[int]]
) -> tuple[Layer, ...]:
    """The layers whose ops have the indexes of `chains`, in this order. Raises ValueError where ops
    of one layer run on the chip and on the CPU."""
    names: Counter[str] = Counter()
    return tuple(_layer(program, target, i, chain, names) for i, chain in enumerate(chains))


def _rider(
    program: Program, target: Target, index: int, readers: dict[str, list[int]], ports: set[str]
) -> int | None:
    """The op that can follow op `index` in its layer: the only reader of its result."""
    output = program.ops[index].output
    users = readers.get(output, [])
    if len(users) != 1 or output in ports:
        return None
    user, hosted = program.ops[users[0]], bool(target.on_host(program.ops[index]))
    if hosted != bool(target.on_host(user)) or not (hosted or has(user, Trait.FOLLOWS)):
        return None
    return users[0]


def _layer(
    program: Program, target: Target, index: int, chain: Sequence[int], names: Counter[str]
) -> Layer:
    ops = tuple(program.ops[i] for i in chain)
    if len({target.on_host(op) is None for op in ops}) != 1:
        raise ValueError(f"layer {index} is neither the chip's nor the CPU's")
    made = {op.output for op in ops}
    read = dict.fromkeys(name for op in ops for name in op.inputs if name not in made)
    origin = ops[0].origin
    name = origin.module or origin.node.lstrip(":") or ops[0].output
    names[name] += 1
    return Layer(
        index=index,
        name=name if names[name] == 1 else f"{name}:{names[name]}",
        ops=ops,
        inputs=tuple(n for n in read if n not in program.consts),
        consts=tuple(n for n in read if n in program.consts),
        output=ops[-1].output,
        host=target.on_host(ops[0]) is not None,
    )
