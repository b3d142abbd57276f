"""Placing: which values stay on chip between groups, when constants are loaded, and every
address."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np

from qatspec.backend.firstfit import Memory, Piece, first_fit
from qatspec.backend.fuse import Effort, Group
from qatspec.backend.network import Network
from qatspec.backend.placement import Keep, Placement, Stage
from qatspec.backend.strips import build
from qatspec.backend.tile import Constants, arrange, passes

#: Constants are loaded at most so many stages ahead; chunks that come in a queue count as stages.
_AHEAD = 64
#: Constants of a layer that runs alone are loaded in at most so many pieces of at least so many
#: bytes.
_PIECES, _PIECE = 8, 48 * 1024


def place_values(net: Network, groups: Sequence[Group], budget: int, effort: Effort) -> Placement:
    """Give everything its place. The buffers may take more than `budget` as whole pieces."""
    placer = _Placer(net, groups, budget, effort)
    return placer.run()


class _Placer:
    def __init__(self, net: Network, groups: Sequence[Group], budget: int, effort: Effort) -> None:
        self.net, self.budget, self.effort = net, budget, effort
        self.stages: list[Stage] = []
        self.keeps: list[Keep] = []
        self.stage_of: dict[int, int] = {}
        for group in groups:
            self._expand(group)
        self.touches = self._touches()
        self.live = np.zeros(len(self.stages), np.int64)  # bytes of keeps
        self.floor: list[int] = []  # bytes of everything else, at least

    def _expand(self, group: Group) -> None:
        net, first = self.net, len(self.stages)
        layers = tuple(range(group.start, group.end))
        if group.mode == "whole":
            self.stages += [Stage(layers=(k,), steps=1) for k in layers]
            self._keep_inside(layers, first)
        elif group.mode == "host":
            self.stages.append(Stage(layers=layers, steps=1, host=True))
        elif group.mode == "strips":
            self.stages.append(Stage(layers=layers, steps=group.steps))
        else:
            in_passes, _ = passes(net, group.start, self.budget, self.effort.depth)
            self.stages.append(Stage(layers=layers, steps=1, passes=in_passes))
        for i, stage in enumerate(self.stages[first:], first):
            self.stage_of.update(dict.fromkeys(stage.layers, i))

    def _keep_inside(self, layers: Sequence[int], first: int) -> None:
        """Values that several layers of a group touch which runs layer by layer."""
        spans: dict[str, Keep] = {}
        for i, k in enumerate(layers, first):
            for root, c0, c1 in _ranges(self.net, k):
                keep = spans.get(root)
                spans[root] = (
                    Keep(root, c0, c1, i, i)
                    if keep is None
                    else Keep(root, min(c0, keep.c0), max(c1, keep.c1), keep.first, i)
                )
        self.keeps += [keep for keep in spans.values() if keep.last > keep.first]

    def _touches(self) -> dict[str, list[tuple[int, int]]]:
        """Root -> (stage, layer) of every layer that reads or writes it."""
        touches: dict[str, list[tuple[int, int]]] = {}
        for k in range(len(self.net.layers)):
            for root in dict.fromkeys(root for root, _, _ in _ranges(self.net, k)):
                touches.setdefault(root, []).append((self.stage_of[k], k))
        return touches

    def run(self) -> Placement:
        self._settle()
        if self.effort.fuse:
            self._keep_between()
        for i in range(len(self.stages)):
            self._finish(i)
        return self._assign()

    # -- what stays on chip ------------------------------------------------------------------

    def _kept(self, i: int) -> set[str]:
        return {keep.root for keep in self.keeps if keep.covers(i)}

    def _settle(self) -> None:
        for keep in self.keeps:
            self.live[keep.first : keep.last + 1] += self._size(keep)
        self.floor = [0] * len(self.stages)
        for i in range(len(self.stages)):
            self._plan(i, self._kept(i))
            self.floor[i] = self._needed(i, self._kept(i))

    def _size(self, keep: Keep) -> int:
        return self.net.bytes(keep.root, keep.c0, keep.c1, self.net.heights[keep.root])

    def _plan(self, i: int, kept: set[str]) -> None:
        """The rings of a stage, and the constants of one in strips."""
        stage, effort = self.stages[i], self.effort
        if stage.passes is not None or stage.host:
            return
        stage.strips = build(
            self.net, stage.layers[0], stage.layers[-1] + 1, stage.steps,
            slack=effort.depth > 1, kept=kept,
        )  # fmt: skip
        if len(stage.layers) > 1 or stage.steps > 1:
            space = self.budget - stage.strips.ring_bytes - int(self.live[i])
            stage.arranged = arrange(self.net, stage.layers, stage.steps, space, effort.depth)

    def _needed(self, i: int, kept: set[str]) -> int:
        """The bytes that stage i needs beside the keeps, with the constants as they are arranged
        or, for a single layer, in the smallest chunks."""
        stage, net = self.stages[i], self.net
        if stage.host:
            return 0
        if stage.passes is not None:
            buffers = [b for root, b in stage.passes.inputs.items() if root not in kept]
            if net.parts[stage.layers[0]].root not in kept:
                buffers.append(stage.passes.output)
            sizes = sum(size * slots for _, size, slots in buffers)
            return sizes + stage.passes.slots * stage.passes.constants
        strips = build(
            net, stage.layers[0], stage.layers[-1] + 1, stage.steps,
            slack=self.effort.depth > 1, kept=kept,
        )  # fmt: skip
        if stage.arranged is not None:
            held = sum(net.const_bytes(k) for k in stage.arranged.held)
            return strips.ring_bytes + held + stage.arranged.bytes
        k = stage.layers[0]
        chunk = net.const_bytes(k, net.smallest_chunk(k))
        least = min(net.const_bytes(k), self.effort.depth * chunk)
        return strips.ring_bytes + least

    def _keep_between(self) -> None:
        """Keep further roots on chip for their whole life: those that spare most bytes for the
        space and time that they take first, as long as every stage fits as it is planned."""
        candidates = []
        for root, touches in self.touches.items():
            if any(self.stages[i].host for i, _ in touches):
                continue  # it passes through DDR in any case
            first, last = touches[0][0], touches[-1][0]
            c0, c1 = self._hull(root)
            keep = Keep(root, c0, c1, first, last)
            saved = self._through_ddr(root)
            if saved and last > first:
                size = self._size(keep)
                candidates.append((-saved / (size * (last - first + 1)), first, root, keep))
        for _, _, root, keep in sorted(candidates, key=lambda c: c[:3]):
            self._try(root, keep)

    def _hull(self, root: str) -> tuple[int, int]:
        layers = [k for _, k in self.touches[root]]
        ranges = [(c0, c1) for k in layers for r, c0, c1 in _ranges(self.net, k) if r == root]
        return min(c0 for c0, _ in ranges), max(c1 for _, c1 in ranges)

    def _through_ddr(self, root: str) -> int:
        """Bytes of the root's parts that pass through DDR and need not."""
        net, moved = self.net, 0
        ports = {port.name for port in net.program.outputs}
        for part in net.parts_of[root]:
            stages = {self.stage_of[k] for k in net.readers[part]}
            home = self.stage_of[part] if part >= 0 else None
            distant = [s for s in stages if s != home and not self._same_keep(root, home, s)]
            reloads = len({self._keep_index(root, s) for s in distant})
            if part < 0:
                moved += max(0, reloads - 1) * net.part_bytes(part)
            elif distant:
                moved += (reloads + (root not in ports)) * net.part_bytes(part)
        return moved

    def _keep_index(self, root: str, stage: int) -> int:
        """A number for the buffer that holds the root in this stage."""
        for number, keep in enumerate(self.keeps):
            if keep.root == root and keep.covers(stage):
                return -1 - number
        return stage

    def _same_keep(self, root: str, home: int | None, stage: int) -> bool:
        if home is None:
            return False
        return any(k.root == root and k.covers(home) and k.covers(stage) for k in self.keeps)

    def _try(self, root: str, keep: Keep) -> None:
        others = [k for k in self.keeps if k.root == root]
        live = self.live.copy()
        for other in others:
            live[other.first : other.last + 1] -= self._size(other)
        live[keep.first : keep.last + 1] += self._size(keep)
        span = range(keep.first, keep.last + 1)
        others_need = [0 if self._touched(root, i) else self.floor[i] for i in span]
        if any(live[i] + need > self.budget for i, need in zip(span, others_need, strict=True)):
            return
        touched = [i for i in span if self._touched(root, i)]
        floors = {i: self._needed(i, self._kept(i) | {root}) for i in touched}
        if any(live[i] + floors[i] > self.budget for i in touched):
            return
        self.keeps = [k for k in self.keeps if k.root != root] + [keep]
        self.live = live
        for i, floor in floors.items():
            self.floor[i] = floor

    def _touched(self, root: str, i: int) -> bool:
        return any(stage == i for stage, _ in self.touches[root])

    # -- constants and addresses --------------------------------------------------------------

    def _finish(self, i: int) -> None:
        """The rings that are left, and constants in the space that is left."""
        stage, net, depth = self.stages[i], self.net, self.effort.depth
        if stage.host:
            return
        if stage.passes is not None:
            kept = self._kept(i)
            inputs = {r: b for r, b in stage.passes.inputs.items() if r not in kept}
            stage.passes = replace(stage.passes, inputs=inputs)
            return
        arranged = stage.arranged
        self._plan(i, self._kept(i))
        stage.arranged = arranged
        if arranged is not None:
            return
        k = stage.layers[0]
        assert stage.strips is not None
        space = self.budget - int(self.live[i]) - stage.strips.ring_bytes
        size = net.const_bytes(k)
        if depth > 1 and size > min(_PIECE, space // depth):
            # in pieces, so that the first channels are computed while the others are loaded, each
            # in memory of its own from then until it is used
            pieces, least = min(_PIECES, size // _PIECE + 1), net.smallest_chunk(k)
            piece = -(-size // pieces) + net.const_bytes(k, least)
            chunk = net.chunk_for(k, min(piece, space // 8)) or least
            slot, count = net.const_bytes(k, chunk), -(-net.channels(k) // chunk)
            if count > 1:
                stage.arranged = Constants(
                    held=(), chunks={k: chunk}, slot=slot, slots=count, traffic=size, queued=True
                )
                return
        if size > space // depth:
            chunk = net.chunk_for(k, space // depth) or net.smallest_chunk(k)
            slot = net.const_bytes(k, chunk)
            slots = min(depth, -(-net.channels(k) // chunk))
            if slot * slots < size:
                stage.arranged = Constants(
                    held=(), chunks={k: chunk}, slot=slot, slots=slots, traffic=size
                )
                return
        stage.arranged = Constants(
            held=(k,) if size else (), chunks={}, slot=0, slots=0, traffic=size
        )

    def _times(self) -> list[int]:
        """When each stage begins, and the end: a stage takes a time, or one for each chunk of a
        queue."""
        lengths = [s.arranged.slots if s.arranged and s.arranged.queued else 1 for s in self.stages]
        return [0, *accumulate(lengths)]

    def _assign(self) -> Placement:
        net, times = self.net, self._times()
        pieces: list[Piece] = []
        targets: list[tuple[str, int, int | str]] = []
        constants: list[int] = []
        queue: list[int] = []

        def take(kind: str, i: int, what: int | str, size: int) -> None:
            if kind in ("held", "slot", "queue"):
                constants.append(len(pieces))
            first, last = i, i
            if kind == "keep":
                first, last = self.keeps[i].first, self.keeps[i].last
            life = times[first], times[last + 1] - 1
            if kind == "queue":
                queue.append(len(pieces))
                life = (times[i] + int(what),) * 2
            targets.append((kind, i, what))
            pieces.append(Piece(size, *life))

        for number, keep in enumerate(self.keeps):
            take("keep", number, 0, self._size(keep))
        for i, stage in enumerate(self.stages):
            if stage.host:
                continue
            if stage.passes is not None:
                for root, (_, size, slots) in stage.passes.inputs.items():
                    for _ in range(slots):
                        take("ring", i, root, size)
                if net.parts[stage.layers[0]].root not in self._kept(i):
                    for _ in range(stage.passes.output[2]):
                        take("output", i, 0, stage.passes.output[1])
                for number in range(stage.passes.slots if stage.passes.constants else 0):
                    take("slot", i, number, stage.passes.constants)
                continue
            assert stage.strips is not None and stage.arranged is not None
            for root, ring in stage.strips.rings.items():
                take("ring", i, root, ring.bytes)
            for k in stage.arranged.held:
                take("held", i, k, net.const_bytes(k))
            for number in range(stage.arranged.slots):
                kind = "queue" if stage.arranged.queued else "slot"
                take(kind, i, number, stage.arranged.slot)
        addresses, starts, used = _fitted(
            pieces, queue, constants, self.budget if self.effort.depth > 1 else 0
        )
        keeps = []
        for (kind, i, what), address, start in zip(targets, addresses, starts, strict=True):
            stage = self.stages[i] if kind != "keep" else self.stages[0]
            if kind == "keep":
                keeps.append((self.keeps[i], address))
            elif kind == "ring":
                stage.rings.setdefault(str(what), []).append(address)
            elif kind == "output":
                stage.output.append(address)
            elif kind == "held":
                stage.constants[int(what)] = address
            else:
                stage.slots.append(address)
            if start < (times[i] + int(what) if kind == "queue" else times[i]) and kind != "keep":
                at = bisect_right(times, start) - 1
                layer = int(what) if kind == "held" else -1 - int(what)
                self.stages[at].prefetch.append((start - times[at], i, layer))
        stored, ddr, ddr_bytes = self._offchip()
        return Placement(
            stages=tuple(self.stages),
            keeps=tuple(keeps),
            stored=stored,
            ddr=ddr,
            onchip_bytes=used,
            ddr_bytes=ddr_bytes,
        )

    def _offchip(self) -> tuple[frozenset[int], dict[str, int], int]:
        """The parts that are stored, and a place in DDR for their roots."""
        net, end = self.net, len(self.stages)
        ports = [p.name for p in (*net.program.inputs, *net.program.outputs)]
        stored, lives = set(), dict.fromkeys(ports, (0, end))
        for part, readers in net.readers.items():
            if part < 0:
                continue
            root, home = net.parts[part].root, self.stage_of[part]
            distant = [
                s for s in (self.stage_of[k] for k in readers)
                if s != home and not self._same_keep(root, home, s)
            ]  # fmt: skip
            if distant or root in ports:
                stored.add(part)
                first, last = lives.get(root, (home, home))
                lives[root] = min(first, home), max(last, *distant, home)
        pieces = []
        for root, (first, last) in lives.items():
            channels = max(net.parts[p].c1 for p in net.parts_of.get(root, ()))
            size = net.bytes(root, 0, channels, net.heights[root])
            pieces.append(Piece(size, first, last))
        addresses, used = first_fit(pieces)
        return frozenset(stored), dict(zip(lives, addresses, strict=True)), used


def _fitted(
    pieces: Sequence[Piece], queue: Sequence[int], constants: Sequence[int], budget: int
) -> tuple[list[int], list[int], int]:
    """Addresses, the first stages of the pieces' lives, and the bytes used in all. `constants`,
    some of them in a `queue`, are loaded as early as `budget` bytes allow, in their order."""
    memory = Memory()
    addresses, starts = [0] * len(pieces), [piece.first for piece in pieces]
    number: dict[int, int] = {}
    for some in (set(range(len(pieces))) - set(queue), queue):
        for i in sorted(some, key=lambda i: (-pieces[i].size, pieces[i].first, i)):
            number[i] = len(number)
            addresses[i] = memory.add(pieces[i])
    floor = 0
    for i in constants if budget else ():
        least = max(floor, pieces[i].first - _AHEAD)
        addresses[i], starts[i] = memory.earlier(number[i], least, budget)
        floor = max(floor, starts[i])
    return addresses, starts, memory.used


def _ranges(net: Network, k: int) -> list[tuple[str, int, int]]:
    """(root, c0, c1) of what layer k writes and reads."""
    part = net.parts[k]
    written = [(part.root, *net.hull(part.root, part.c0, part.c1))]
    return written + [(r.root, *net.hull(r.root, r.c0, r.c1)) for r in net.reads[k]]
