"""What the passes of the tiling backend make of a small net, as text: one section a pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from qatspec.backend import checks
from qatspec.backend.compiled import Compiled
from qatspec.backend.cost import host_us, layer_us
from qatspec.backend.disasm import listing
from qatspec.backend.emit import emit
from qatspec.backend.encode import pack_weights
from qatspec.backend.fuse import Effort, Group, fuse
from qatspec.backend.groups import Groups
from qatspec.backend.layers import group
from qatspec.backend.network import Network
from qatspec.backend.pipeline import lay_out
from qatspec.backend.place import place_values
from qatspec.backend.placement import Placement, Stage
from qatspec.backend.region import full_box
from qatspec.backend.schedule import Event, schedule
from qatspec.program import Program
from qatspec.types import HostCpu
from tests.unit.backend.conftest import Net, make_target


@dataclass(frozen=True)
class Case:
    """A net and the memory that it is planned for. host: op -> why the CPU runs it."""

    build: Callable[[Net], Program]
    onchip: int
    cores: int = 1
    host: str = ""


def _residual(net: Net) -> Program:
    x = net.conv(net.input(4, 12, 10), 8, stride=2)
    deep = net.conv(net.conv(x, 16, kernel=1), 16, groups=16)
    return net.finish(net.requant(net.raw_conv(deep, 8, kernel=1), x))


def _strips(net: Net) -> Program:
    """Two branches of a wide picture, joined: the values do not fit on chip, their strips do."""
    x = net.conv(net.input(4, 16, 32), 8)
    a, b = net.conv(x, 8), net.conv(x, 4, kernel=1)
    joined = net.emit("concat", [a, b], axis=1)
    part = net.emit("slice", [joined], axis=1, start=4, stop=12, step=1)
    return net.finish(net.conv(part, 4, stride=2))


def _in_passes(net: Net) -> Program:
    """The second layer does not fit on chip: it runs in passes over its channels."""
    x = net.conv(net.input(8, 4, 4), 64, kernel=1)
    return net.finish(net.conv(net.conv(x, 48), 16, kernel=1))


def _on_cpu(net: Net) -> Program:
    x = net.conv(net.input(4, 6, 6), 8)
    table = net.const("int8", net.rng.integers(-128, 128, 256))
    return net.finish(net.conv(net.emit("lut", [x, table], dtype="int8"), 4, kernel=1))


CASES = {
    "residual": Case(_residual, 1 << 16),
    "strips": Case(_strips, 6 * 1024, cores=2),
    "in_passes": Case(_in_passes, 12 * 1024),
    "on_cpu": Case(_on_cpu, 1 << 16, host="lut"),
}


def pass_text(case: Case) -> str:
    """The text of a case; every pass is checked too."""
    program = case.build(Net())
    host = HostCpu(ops={case.host: "no table"}, elements_per_us=100, start_us=10)
    target = make_target(case.onchip, host=host if case.host else None)
    layers, packed = group(program, target), lay_out(program, target)
    net, effort = Network.of(program, target, packed, layers), Effort(depth=2)
    checks.check_views(net)
    cut = fuse(Groups(net), case.onchip, effort)
    checks.check_groups(cut, net)
    placed = place_values(net, cut, case.onchip, effort)
    checks.check_placement(placed, net, case.onchip)
    checks.check_tiles(placed, net)
    compiled = Compiled(
        program=program, target=target, opt="O2", cores=case.cores, packed=packed,
        weights=pack_weights(program, packed), layers=layers,
        commands=emit(net, placed, case.cores), ddr=placed.ddr,
        onchip_bytes=placed.onchip_bytes, ddr_bytes=placed.ddr_bytes,
    )  # fmt: skip
    events = schedule(compiled)
    checks.check_schedule(events, compiled)
    checks.check_cost(events, compiled)
    sections = {
        "views": _views(net),
        "fuse": _groups(cut, net),
        "place": _placement(placed),
        "tile": _tiles(placed, net),
        "emit": listing(compiled),
        "schedule": _events(events),
        "cost": _costs(compiled),
    }
    texts = ("\n".join((f"# {name}", *lines, "")) for name, lines in sections.items())
    return "\n".join(texts)


def _views(net: Network) -> Iterator[str]:
    for name, home in net.homes.items():
        if home.root != name:
            yield f"{name} is {home.root} from channel {home.channel}"
    for k, layer in enumerate(net.layers):
        part = net.parts[k]
        reads = ", ".join(f"{r.root}[{r.c0}..{r.c1}]" for r in net.reads[k])
        yield f"{k} {layer.name}: {part.root}[{part.c0}..{part.c1}] = {reads}"


def _groups(cut: Sequence[Group], net: Network) -> Iterator[str]:
    for one in cut:
        names = ", ".join(layer.name for layer in net.layers[one.start : one.end])
        yield f"{one.mode}, steps {one.steps}: {names}"


def _placement(placed: Placement) -> Iterator[str]:
    yield f"{placed.onchip_bytes} bytes on chip, {placed.ddr_bytes} in DDR"
    for keep, address in placed.keeps:
        stages = f"stages {keep.first}..{keep.last}"
        yield f"keep {keep.root}[{keep.c0}..{keep.c1}] at {address:#x}, {stages}"
    for number, stage in enumerate(placed.stages):
        for root, addresses in stage.rings.items():
            rows = stage.strips.rings[root].rows if stage.strips else stage.passes.inputs[root][0]
            yield f"stage {number}: ring {root} of {rows} rows at {_hex(addresses)}"
        if stage.output:
            yield f"stage {number}: result at {_hex(stage.output)}"
        for k, address in stage.constants.items():
            yield f"stage {number}: constants of {k} at {address:#x}"
        if stage.slots:
            yield f"stage {number}: slots at {_hex(stage.slots)}"
        for chunk, later, layer in stage.prefetch:
            what = f"constants of {layer}" if layer >= 0 else f"slot {-1 - layer}"
            before = f" before chunk {chunk}" if chunk else ""
            yield f"stage {number}{before}: loads {what} of stage {later}"
    yield f"stored: {sorted(placed.stored)}"
    yield f"DDR: {', '.join(f'{root} at {a:#x}' for root, a in placed.ddr.items())}"


def _hex(addresses: Sequence[int]) -> str:
    return ", ".join(f"{address:#x}" for address in addresses)


def _tiles(placed: Placement, net: Network) -> Iterator[str]:
    for number, stage in enumerate(placed.stages):
        yield f"stage {number}, layers {list(stage.layers)}: {_tile(stage, net)}"


def _tile(stage: Stage, net: Network) -> str:
    if stage.passes is not None:
        tile = stage.passes
        return f"passes of {tile.channels} channels, {tile.steps} steps, {tile.traffic} bytes moved"
    if stage.arranged is None:
        return "on the CPU"
    one = stage.arranged
    chunks = {k: f"{chunk} of {net.channels(k)} channels" for k, chunk in one.chunks.items()}
    return f"steps {stage.steps}, held {list(one.held)}, streamed {chunks}, {one.traffic} bytes"


def _events(events: Sequence[Event]) -> Iterator[str]:
    for number, event in enumerate(events):
        moved = f", {event.moved} bytes" if event.moved else ""
        yield f"{number} {event.command.code}: {event.start:.3f} to {event.end:.3f} us{moved}"


def _costs(compiled: Compiled) -> Iterator[str]:
    for layer in compiled.layers:
        box = full_box(compiled.program.values[layer.output].shape)
        time = (
            host_us(layer, compiled.program, compiled.target)
            if layer.host
            else layer_us(layer, box, compiled.program, compiled.target)
        )
        yield f"{layer.name}: {time:.4f} us"
