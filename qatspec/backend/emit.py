"""From a placement to the command stream. The order is that of a run with one unit; `schedule`
lets every unit run ahead as far as the memory allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from qatspec.backend.commands import Command, Operand
from qatspec.backend.network import Network
from qatspec.backend.placement import Keep, Placement, Stage
from qatspec.backend.region import Box
from qatspec.backend.strips import Strips, build
from qatspec.backend.tile import pass_ranges

#: A buffer on chip: its address, and the channels and rows of the root that it has space for.
Buffer = Operand


def emit(net: Network, placement: Placement, cores: int) -> tuple[Command, ...]:
    """The command stream of a placement, with rows shared between so many cores."""
    index = {name: i for i, name in enumerate(net.program.values)}
    return tuple(_Emitter(net, placement, cores, index).stream())


@dataclass(slots=True)
class _Emitter:
    net: Network
    placement: Placement
    cores: int
    index: dict[str, int]  # value -> its number in the stream
    #: a keep and a part that lies in it: two keeps of a root may follow each other at one address
    present: set[tuple[Keep, int]] = field(default_factory=set)
    loaded: set[tuple[int, int]] = field(default_factory=set)  # (stage, layer or -1 - chunk)

    def stream(self) -> Iterator[Command]:
        for i, stage in enumerate(self.placement.stages):
            if stage.host:
                yield from self._prefetch(self._ahead(stage, 0))
                yield self._host(stage.layers[0])
            elif stage.passes is not None:
                yield from self._passes(i, stage)
            else:
                assert stage.strips is not None
                yield from self._strips(i, stage, stage.strips)

    # -- a group in strips --------------------------------------------------------------------

    def _strips(self, i: int, stage: Stage, strips: Strips) -> Iterator[Command]:
        chunks = enumerate(_chunks(self.net, stage, strips))
        assert stage.arranged is not None
        ahead = [] if stage.arranged.queued else self._ahead(stage, 0)
        for step in range(stage.steps):
            if step == 0:
                yield from self._whole_inputs(i, stage)
            yield from self._inputs(stage, strips, step)
            for k in stage.layers:
                h0, h1 = int(strips.done[k][step]), int(strips.done[k][step + 1])
                if h0 == h1:
                    continue
                if k in stage.constants:
                    yield from self._hold(i, stage, k)
                if k == stage.layers[-1] or stage.steps == 1:
                    # spread over the steps, so that they do not hold up the inputs of the next one
                    done = len(ahead) * step // stage.steps
                    until = len(ahead) * (step + 1) // stage.steps
                    yield from self._prefetch(ahead[done:until])
                yield from self._run(i, stage, k, (h0, h1), chunks)
                yield from self._store(i, stage, k, (h0, h1))

    def _run(
        self, i: int, stage: Stage, k: int, rows: tuple[int, int],
        chunks: Iterator[tuple[int, tuple[int, int, int]]],
    ) -> Iterator[Command]:  # fmt: skip
        assert stage.arranged is not None
        if k not in stage.arranged.chunks:
            box = Box(0, self.net.channels(k), *rows)
            yield from self._execute(i, stage, k, box, stage.constants.get(k, 0))
            return
        step = stage.arranged.chunks[k]
        for c0 in range(0, self.net.channels(k), step):
            number, (_, _, c1) = next(chunks)
            address = stage.slots[number % len(stage.slots)]
            if (i, -1 - number) not in self.loaded:
                yield self._weights(k, c0, c1, address)
            if stage.arranged.queued:
                yield from self._prefetch(self._ahead(stage, number))
            yield from self._execute(i, stage, k, Box(c0, c1, *rows), address)

    def _hold(self, i: int, stage: Stage, k: int) -> Iterator[Command]:
        """The constants of a layer that stay for the stage, unless they are there."""
        if (i, k) not in self.loaded:
            self.loaded.add((i, k))
            yield self._weights(k, 0, self.net.channels(k), stage.constants[k])

    def _ahead(self, stage: Stage, number: int) -> list[tuple[int, int]]:
        """(stage, layer or -1 - slot) of what is loaded before chunk `number`, in order of use."""
        ahead = [(i, what) for chunk, i, what in stage.prefetch if chunk == number]
        return sorted(ahead, key=lambda p: (p[0], abs(p[1])))

    def _prefetch(self, ahead: Sequence[tuple[int, int]]) -> Iterator[Command]:
        """Constants of later stages whose buffers are free by now: (stage, layer or chunk)."""
        for i, what in ahead:
            later = self.placement.stages[i]
            if what >= 0:
                yield from self._hold(i, later, what)
                continue
            sequence = self._sequence(later)
            number = -1 - what
            if number < len(sequence):
                k, c0, c1 = sequence[number]
                self.loaded.add((i, what))
                yield self._weights(k, c0, c1, later.slots[number])

    def _sequence(self, stage: Stage) -> list[tuple[int, int, int]]:
        """(layer, c0, c1) of the first chunks of constants that a stage loads."""
        if stage.passes is not None:
            k, step = stage.passes.k, stage.passes.channels
            total = self.net.channels(k)
            return [(k, c0, min(c0 + step, total)) for c0 in range(0, total, step)]
        assert stage.strips is not None
        chunks = _chunks(self.net, stage, stage.strips)
        return [chunk for _, chunk in zip(stage.slots, chunks, strict=False)]

    def _inputs(self, stage: Stage, strips: Strips, step: int) -> Iterator[Command]:
        """The rows that the step needs of parts that pass through DDR."""
        for source, demand in strips.external.items():
            part = self.net.parts[source]
            if part.root not in strips.rings:
                continue
            h0, h1 = strips.rows_loaded(source, step)
            if h0 < h1:
                ring = strips.rings[part.root]
                buffer = Buffer(stage.rings[part.root][0], Box(ring.c0, ring.c1, 0, ring.rows))
                box = Box(demand.c0, demand.c1, h0, h1)
                yield self._load(stage.layers[0], part.root, box, buffer)

    # -- one layer in passes --------------------------------------------------------------------

    def _passes(self, i: int, stage: Stage) -> Iterator[Command]:
        passes = stage.passes
        assert passes is not None
        net, k = self.net, passes.k
        strips = build(net, k, k + 1, passes.steps, slack=True)
        yield from self._whole_inputs(i, stage)
        before: dict[str, tuple[int, int]] = {}
        for number, (_, c0, c1) in enumerate(self._sequence(stage)):
            address = stage.slots[number % len(stage.slots)] if stage.slots else 0
            if stage.slots and (i, -1 - number) not in self.loaded:
                yield self._weights(k, c0, c1, address)
            if number == 0:
                yield from self._prefetch(self._ahead(stage, 0))
            ranges = pass_ranges(net, k, (c0, c1))
            buffers = {
                root: Buffer(
                    stage.rings[root][number % len(stage.rings[root])],
                    Box(*ranges[root], 0, passes.inputs[root][0]),
                )
                for root in passes.inputs
            }
            for step in range(passes.steps):
                for source in strips.external:
                    root = net.parts[source].root
                    if root not in buffers:
                        continue
                    if passes.steps == 1 and before.get(root) == ranges[root]:
                        continue
                    box = self._cut(source, ranges[root], strips.rows_loaded(source, step))
                    if box is not None:
                        yield self._load(k, root, box, buffers[root])
                h0, h1 = int(strips.done[k][step]), int(strips.done[k][step + 1])
                if h0 < h1:
                    box = Box(c0, c1, h0, h1)
                    yield from self._execute(i, stage, k, box, address, buffers, number)
                    yield from self._store(i, stage, k, (h0, h1), (c0, c1), number)
            before = ranges

    def _cut(self, source: int, channels: tuple[int, int], rows: tuple[int, int]) -> Box | None:
        """These channels and rows of a part, None where there are none."""
        part = self.net.parts[source]
        c0, c1 = max(channels[0], part.c0), min(channels[1], part.c1)
        return Box(c0, c1, *rows) if c0 < c1 and rows[0] < rows[1] else None

    # -- commands -----------------------------------------------------------------------------

    def _whole_inputs(self, i: int, stage: Stage) -> Iterator[Command]:
        """Parts that a stage reads from a whole buffer into which nobody has written them."""
        net = self.net
        inside = set(stage.layers)
        for k in stage.layers:
            for read in net.reads[k]:
                kept = self.placement.keep(read.root, i)
                if kept is None:
                    continue
                keep, _ = kept
                for source in read.sources:
                    part = net.parts[source]
                    if source in inside or (keep, source) in self.present:
                        continue
                    self.present.add((keep, source))
                    c0, c1 = max(part.c0, keep.c0), min(part.c1, keep.c1)
                    box = Box(c0, c1, 0, net.heights[read.root])
                    yield self._load(k, read.root, box, self._buffer(i, stage, read.root))

    def _buffer(self, i: int, stage: Stage, root: str) -> Buffer:
        """Where a root lies in this stage."""
        kept = self.placement.keep(root, i)
        if kept is not None:
            keep, address = kept
            return Buffer(address, Box(keep.c0, keep.c1, 0, self.net.heights[root]))
        assert stage.strips is not None
        ring = stage.strips.rings[root]
        return Buffer(stage.rings[root][0], Box(ring.c0, ring.c1, 0, ring.rows))

    def _result(
        self, i: int, stage: Stage, k: int, number: int, channels: tuple[int, int]
    ) -> Buffer:
        """Where layer k writes its result."""
        root = self.net.parts[k].root
        if stage.passes is None or self.placement.keep(root, i) is not None:
            return self._buffer(i, stage, root)
        base, rows = self.net.parts[k].c0, stage.passes.output[0]
        address = stage.output[number % len(stage.output)]
        return Buffer(address, Box(base + channels[0], base + channels[1], 0, rows))

    def _weights(self, k: int, c0: int, c1: int, address: int) -> Command:
        box = Box(c0, c1, 0, 1)
        return Command(
            code="weight", layer=self.net.layers[k].index, value=0, address=address, box=box,
            buffer=box,
        )  # fmt: skip

    def _load(self, k: int, root: str, box: Box, buffer: Buffer) -> Command:
        return Command(
            code="load", layer=self.net.layers[k].index, value=self.index[root],
            address=buffer.address, box=box, buffer=buffer.box,
        )  # fmt: skip

    def _execute(
        self, i: int, stage: Stage, k: int, box: Box, constants: int,
        inputs: dict[str, Buffer] | None = None, number: int = 0,
    ) -> Iterator[Command]:  # fmt: skip
        layer, part = self.net.layers[k], self.net.parts[k]
        result = self._result(i, stage, k, number, (box.c0, box.c1))
        given = inputs or {}
        operands = tuple(
            given[r.root] if r.root in given else self._buffer(i, stage, r.root)
            for r in self.net.reads[k]
        )
        kept = self.placement.keep(part.root, i)
        if kept is not None:
            self.present.add((kept[0], k))
        for core, piece in enumerate(self._share(k, box)):
            yield Command(
                code="execute", layer=layer.index, value=self.index[part.root],
                address=result.address, box=piece, buffer=result.box, core=core,
                constants=constants, operands=operands,
            )  # fmt: skip

    def _host(self, k: int) -> Command:
        box = Box(0, self.net.channels(k), 0, self.net.heights[self.net.parts[k].root])
        return Command(
            code="host", layer=self.net.layers[k].index, value=self.index[self.net.parts[k].root],
            address=0, box=box, buffer=box,
        )  # fmt: skip

    def _share(self, k: int, box: Box) -> list[Box]:
        """A box for each core: a share of the rows."""
        count = min(self.cores, box.rows) if self.net.divisible[k] else 1
        ends = [box.h0 + box.rows * i // count for i in range(count + 1)]
        return [Box(box.c0, box.c1, ends[i], ends[i + 1]) for i in range(count)]

    def _store(
        self, i: int, stage: Stage, k: int, rows: tuple[int, int],
        channels: tuple[int, int] | None = None, number: int = 0,
    ) -> Iterator[Command]:  # fmt: skip
        if k not in self.placement.stored:
            return
        part = self.net.parts[k]
        c0, c1 = channels or (0, part.c1 - part.c0)
        result = self._result(i, stage, k, number, (c0, c1))
        yield Command(
            code="store", layer=self.net.layers[k].index, value=self.index[part.root],
            address=result.address, box=Box(part.c0 + c0, part.c0 + c1, *rows), buffer=result.box,
        )  # fmt: skip


def _chunks(net: Network, stage: Stage, strips: Strips) -> Iterator[tuple[int, int, int]]:
    """(layer, c0, c1) of the chunks of constants that a stage loads, in order."""
    assert stage.arranged is not None
    for step in range(stage.steps):
        for k in stage.layers:
            chunk = stage.arranged.chunks.get(k)
            if chunk is None or strips.done[k][step] == strips.done[k][step + 1]:
                continue
            total = net.channels(k)
            for c0 in range(0, total, chunk):
                yield k, c0, min(c0 + chunk, total)
