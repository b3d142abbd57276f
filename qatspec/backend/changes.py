"""Changes of a network that may make it faster on a chip: what to compile, the largest first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qatspec.backend.channels import Channels, Width, alone
from qatspec.backend.layers import Layer
from qatspec.backend.perf import Timing
from qatspec.backend.profile import KIB, Cost, spills
from qatspec.backend.rewrite import Change
from qatspec.backend.target import align
from qatspec.ir import Op
from qatspec.program import Program

#: Ops of the model that the chip leaves to the CPU -> what to write instead, and what then gives
#: the value ("nothing": a batch norm, which is folded).
_INSTEAD: Mapping[str, tuple[str, str]] = {
    "softmax": ("a sigmoid", "table"),
    "log_softmax": ("a sigmoid", "table"),
    "layer_norm": ("a batch norm, which is folded", "nothing"),
    "group_norm": ("a batch norm, which is folded", "nothing"),
    "instance_norm": ("a batch norm, which is folded", "nothing"),
    "instance_norm1d": ("a batch norm, which is folded", "nothing"),
    "instance_norm2d": ("a batch norm, which is folded", "nothing"),
    "instance_norm3d": ("a batch norm, which is folded", "nothing"),
}
_RELU = ("ReLU", "clamp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A change that may pay.

    what, why  in words; modules: that change; source: line of the model.
    potential  at most so much time is saved, in us: proposals are compiled in this order.
    widens     it makes layers wider, which is worth something where it takes no more time.
    """

    what: str
    why: str
    modules: tuple[str, ...]
    source: str
    change: Change
    potential: float
    widens: bool = False


def proposals(program: Program, timed: Timing, costs: Sequence[Cost]) -> Iterator[Proposal]:
    """Yield what may be changed of a compiled network; `timed`: its schedule, `costs`: its
    layers."""
    net = _Net(program, timed, costs)
    known: list[Change] = []
    for ways in (
        _widths, _groups, _kernels, _activations, _fused, _narrower_spills, _smaller_image,
    ):  # fmt: skip
        for proposal in ways(net):
            if proposal.change not in known:  # one width may be narrower for two reasons
                known.append(proposal.change)
                yield proposal


class _Net:
    """A program with the time of its layers, and the channels that must stay equal."""

    def __init__(self, program: Program, timed: Timing, costs: Sequence[Cost]) -> None:
        self.program, self.timed = program, timed
        self.target = timed.compiled.target
        self.layers = timed.compiled.layers
        self.cost = {cost.index: cost for cost in costs}
        self.maker = {op.output: op for op in program.ops}
        self.layer_of = {op.output: layer for layer in self.layers for op in layer.ops}
        self.classes = Channels(program)
        self.readers = Counter(name for layer in self.layers for name in layer.inputs)
        self.readers.update(port.name for port in program.outputs)

    def us(self, op: Op) -> float:
        """Time of the layer of an op: cores and traffic."""
        cost = self.cost[self.layer_of[op.output].index]
        return cost.us + cost.ddr_us


def _widths(net: _Net) -> Iterator[Proposal]:
    """Channels that do not fill the lanes: narrower to the last multiple, wider to the next."""
    hardware = net.target.hardware
    lanes = max(hardware.align_channels_in, hardware.align_channels_out)
    for one in net.classes.all.values():
        width = one.width
        if one.fixed or not one.producers or width % lanes == 0:
            continue
        less, more = width // lanes * lanes, align(width, lanes)
        us = _class_us(net, one)
        names, source = _named(one.producers)
        why = f"the array works on {lanes} channels at a time: {width} take as long as {more}"
        for target, widens in ((less, False), (more, True)):
            if target:
                yield Proposal(
                    what=f"{width} -> {target} channels",
                    why=why,
                    modules=names,
                    source=source,
                    change=Change(widths={op.output: target for op in one.producers}),
                    potential=us * (1 - less / more),
                    widens=widens,
                )


def _class_us(net: _Net, one: Width) -> float:
    """Time of the layers that make or read the values of a class."""
    layers = {
        layer.index
        for layer in net.layers
        if layer.output in one.values or any(name in one.values for name in layer.inputs)
    }
    return sum(net.cost[k].us + net.cost[k].ddr_us for k in layers)


def _named(ops: Sequence[Op]) -> tuple[tuple[str, ...], str]:
    """The modules of some ops, and the line of the first."""
    names = tuple(dict.fromkeys(op.origin.module or op.output for op in ops))
    return names, next((op.origin.source for op in ops if op.origin.source), "")


def _groups(net: _Net) -> Iterator[Proposal]:
    """Groups whose channels do not fill the lanes."""
    hardware = net.target.hardware
    calls: dict[str, list[Op]] = {}
    for op in net.program.ops:
        if op.kind == "conv" and op.attrs["groups"] > 1 and not alone(op, net.program):
            calls.setdefault(op.origin.module or op.output, []).append(op)
    for ops in calls.values():
        channels = net.program.values[ops[0].inputs[0]].shape[0]
        out, groups = net.program.values[ops[0].output].shape[0], ops[0].attrs["groups"]
        per_group = channels // groups
        names, source = _named(ops)
        padded = align(per_group, hardware.align_channels_in)
        for other in dict.fromkeys((channels // padded, channels, 1)):
            if not other or other == groups or channels % other or out % other:
                continue
            yield Proposal(
                what=f"{groups} -> {other} group{'s' * (other > 1)}",
                why=f"the array takes {padded} channels of a group at a time, a group has "
                f"{per_group}",
                modules=names,
                source=source,
                change=Change(groups={op.output: other for op in ops}),
                potential=sum(map(net.us, ops)) / 2,
                widens=other < groups,
            )


def _kernels(net: _Net) -> Iterator[Proposal]:
    """Kernels above 3: all of one size and stage of the image at once."""
    alike: dict[tuple[int, bool, tuple[int, ...]], list[_Changed]] = {}
    for op in net.program.ops:
        if op.kind != "conv":
            continue
        *_, kh, kw = net.program.values[op.inputs[1]].shape
        if kh == kw and kh > 3 and kh % 2:
            key = (kh, alone(op, net.program), net.program.values[op.output].shape[1:])
            us = net.cost[net.layer_of[op.output].index].us
            alike.setdefault(key, []).append(_Changed((op,), us * (1 - 9 / kh**2)))
    for changed in _by_module(alike.values()):
        ops = [one.ops[0] for one in changed]
        names, source = _named(ops)
        kernel = net.program.values[ops[0].inputs[1]].shape[2]
        kind = "depthwise convolution" if alone(ops[0], net.program) else "convolution"
        yield Proposal(
            what=f"kernel {kernel} -> 3",
            why=f"a {kind} takes time for each of its {kernel * kernel} taps",
            modules=names,
            source=source,
            change=Change(kernels={op.output: 3 for op in ops}),
            potential=sum(one.saved for one in changed),
        )


@dataclass(frozen=True, slots=True)
class _Changed:
    """Ops that change together, and the time that this may save, in us; read: value that the last
    of them then reads, with the window of the first."""

    ops: tuple[Op, ...]
    saved: float
    read: str = ""
    window: str = ""

    @property
    def modules(self) -> set[str]:
        return {op.origin.module or op.output for op in self.ops}


def _by_module(groups: Iterable[Sequence[_Changed]]) -> list[list[_Changed]]:
    """The groups, with those as one that change a module in common: a module that is called several
    times changes everywhere."""
    joined: list[list[_Changed]] = []
    for group in groups:
        now = list(group)
        modules = {name for one in now for name in one.modules}
        for other in [g for g in joined if any(one.modules & modules for one in g)]:
            joined.remove(other)
            now = [*other, *now]
            modules |= {name for one in other for name in one.modules}
        joined.append(now)
    return joined


def _activations(net: _Net) -> Iterator[Proposal]:
    """Activations and norms that the CPU runs, and tables on the chip: all of one kind at once."""
    alike: dict[tuple[str, str, bool], list[tuple[Op, str, float]]] = {}
    for layer in net.layers:
        for name, sources, ops in _runs(layer, net.program):
            if len(sources) == 1 and name and (layer.host or ops[0].kind == "lut"):
                us = net.cost[layer.index].us + net.cost[layer.index].ddr_us
                key = (name, net.target.on_host(ops[0]) or "", layer.host)
                alike.setdefault(key, []).append((ops[-1], sources[0], us))
    for (name, reason, host), changed in alike.items():
        words, by = _INSTEAD.get(name, _RELU)
        names, source = _named([op for op, _, _ in changed])
        times = f"{len(changed)} times" if len(changed) > 1 else "once"
        yield Proposal(
            what=f"{name} -> {words}",
            why=f"it runs on the CPU, {times}: {reason}" if host
            else f"it is a table of its own, {times}; ReLU is part of the layer in front",
            modules=names,
            source=source,
            change=Change(instead={op.output: (read, by) for op, read, _ in changed}),
            potential=sum(us for _, _, us in changed),
        )  # fmt: skip


def _runs(layer: Layer, program: Program) -> Iterator[tuple[str, list[str], list[Op]]]:
    """(op of the model, values that it reads, integer ops) of each op of the model in a layer."""
    start = 0
    for end in range(1, len(layer.ops) + 1):
        origin = layer.ops[start].origin
        if end < len(layer.ops) and layer.ops[end].origin == origin:
            continue
        ops = list(layer.ops[start:end])
        made = {op.output for op in ops}
        read = {n for op in ops for n in op.inputs if n not in made and n not in program.consts}
        yield origin.op, sorted(read), ops
        start = end


def _fused(net: _Net) -> Iterator[Proposal]:
    """A depthwise convolution and the 1x1 convolution in front of it or behind it: one dense
    convolution, where the array has time left. All of one shape at once."""
    alike: dict[tuple[Any, ...], list[_Changed]] = {}
    for op in net.program.ops:
        if op.kind != "conv" or not alone(op, net.program):
            continue
        front, behind = _before(net, op.inputs[0]), _behind(net, op.output)
        if front is not None and _is_1x1(front, net.program):
            read = front.inputs[0]
            saved = net.us(front) + net.us(op) - _dense_us(net, read, op, op)
            one = _Changed((front, op), saved, read, op.output)
            alike.setdefault(("front", *_shapes(net, front, op)), []).append(one)
        if behind is not None and _is_1x1(behind, net.program):
            read = op.inputs[0]
            saved = net.us(op) + net.us(behind) - _dense_us(net, read, op, behind)
            one = _Changed((op, behind), saved, read, op.output)
            alike.setdefault(("behind", *_shapes(net, op, behind)), []).append(one)
    for way in ("front", "behind"):
        for changed in _by_module(group for key, group in alike.items() if key[0] == way):
            potential = sum(one.saved for one in changed)
            if potential <= 0:
                continue
            names, source = _named([op for one in changed for op in one.ops])
            window = net.maker[changed[0].window]
            kernel = "x".join(map(str, net.program.values[window.inputs[1]].shape[2:]))
            pair = ("1x1", f"depthwise {kernel}")[:: 1 if way == "front" else -1]
            yield Proposal(
                what=f"{pair[0]} and {pair[1]} -> one convolution {kernel}",
                why="two layers of little work: each has its start, and a depthwise one leaves "
                "most of the array idle",
                modules=names,
                source=source,
                change=Change(fused={c.ops[-1].output: (c.read, c.window) for c in changed}),
                potential=potential,
            )


def _before(net: _Net, name: str) -> Op | None:
    """The first op of the layer that gives a value, where one layer alone reads it."""
    layer = net.layer_of.get(name)
    if layer is None or layer.output != name or net.readers[name] != 1:
        return None
    return layer.ops[0]


def _behind(net: _Net, name: str) -> Op | None:
    """The first op of the layer that alone reads what the layer of an op gives."""
    value = net.layer_of[name].output
    if net.readers[value] != 1:
        return None
    return next(layer.ops[0] for layer in net.layers if value in layer.inputs)


def _is_1x1(op: Op, program: Program) -> bool:
    """Return whether an op is a plain convolution with a kernel of 1."""
    if op.kind != "conv":
        return False
    same = op.attrs["stride"] == (1, 1) and not any(op.attrs["padding"])
    return bool(
        same and op.attrs["groups"] == 1 and program.values[op.inputs[1]].shape[2:] == (1, 1)
    )


def _shapes(net: _Net, a: Op, b: Op) -> tuple[Any, ...]:
    values = net.program.values
    return (values[a.inputs[0]].shape, values[a.inputs[1]].shape, values[b.inputs[1]].shape,
            values[b.output].shape)  # fmt: skip


def _dense_us(net: _Net, source: str, window: Op, op: Op) -> float:
    """Time of a dense convolution of a value with the kernel of `window` and the channels of
    `op`."""
    values, hardware = net.program.values, net.target.hardware
    _, rows, columns = values[window.output].shape
    work = rows * align(columns, hardware.align_width)
    work *= values[window.inputs[1]].shape[2] * values[window.inputs[1]].shape[3]
    work *= align(values[source].shape[0], hardware.align_channels_in)
    work *= align(values[op.output].shape[0], hardware.align_channels_out)
    return net.target.cycles_to_us(work / hardware.macs_per_cycle) + hardware.start_overhead_us


def _narrower_spills(net: _Net) -> Iterator[Proposal]:
    """Values that pass through DDR, three quarters as wide."""
    hardware = net.target.hardware
    lanes = max(hardware.align_channels_in, hardware.align_channels_out)
    for spill in spills(net.timed):
        if spill.value not in net.maker or spill.host:
            continue
        one = net.classes.of(spill.value)
        narrower = one.width * 3 // 4 // lanes * lanes
        if one.fixed or not one.producers or 3 * narrower < 2 * one.width:
            continue
        names, source = _named(one.producers)
        yield Proposal(
            what=f"{one.width} -> {narrower} channels",
            why=f"{spill.size // KIB:,} KB of `{spill.layer}` do not stay on chip: "
            f"{spill.moved // KIB:,} KB through DDR",
            modules=names,
            source=source,
            change=Change(widths={op.output: narrower for op in one.producers}),
            potential=spill.moved / hardware.ddr_bytes_per_us + _class_us(net, one) / 4,
        )


def _smaller_image(net: _Net) -> Iterator[Proposal]:
    """A smaller image where values of this one do not stay on chip."""
    images = [p for p in net.program.inputs if len(p.shape) == 3]
    moved = sum(spill.moved for spill in spills(net.timed))
    if len(images) != 1 or len(net.program.inputs) != 1 or not moved:
        return
    rows, columns = images[0].shape[1:]
    size = tuple(max(32, side * 7 // 8 // 32 * 32) for side in (rows, columns))
    if size == (rows, columns) or rows % 32 or columns % 32:
        return
    yield Proposal(
        what=f"image {rows}x{columns} -> {size[0]}x{size[1]}",
        why=f"{moved // KIB:,} KB of values between layers pass through DDR a frame",
        modules=(),
        source="",
        change=Change(size=(size[0], size[1])),
        potential=net.timed.latency * (1 - size[0] * size[1] / rows / columns),
    )
