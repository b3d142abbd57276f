"""A plan with every address: a list of stages, one after the other.

A stage is a group in strips, one layer of a group that runs layer by layer, one layer in passes, or
one on the CPU. Buffers live from one stage to another.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from qatspec.backend.strips import Strips
from qatspec.backend.tile import Constants, Passes


@dataclass(frozen=True, slots=True)
class Keep:
    """Channels c0..c1 and all rows of a root stay on chip from stage `first` to stage `last`."""

    root: str
    c0: int
    c1: int
    first: int
    last: int

    def covers(self, stage: int) -> bool:
        """Return whether the buffer is there in this stage."""
        return self.first <= stage <= self.last


@dataclass(slots=True, kw_only=True)
class Stage:
    """Layers that run together. strips: None for a layer in passes, which `passes` describes, and
    for one on the CPU (`host`), which has nothing on chip.
    rings, constants: addresses of the buffers by root and by layer; slots: those of streamed
    constants. prefetch: constants of later stages that are loaded in this one, each with the number
    of the chunk of this stage that it is loaded before, where its constants come in a queue."""

    layers: tuple[int, ...]
    steps: int
    strips: Strips | None = None
    passes: Passes | None = None
    host: bool = False
    arranged: Constants | None = None
    rings: dict[str, list[int]] = field(default_factory=dict)
    output: list[int] = field(default_factory=list)
    constants: dict[int, int] = field(default_factory=dict)
    slots: list[int] = field(default_factory=list)
    #: (chunk, stage, layer or -1 - slot)
    prefetch: list[tuple[int, int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """stages; keeps: whole buffers and their addresses; stored: parts that are written to DDR;
    ddr: root -> address in DDR."""

    stages: tuple[Stage, ...]
    keeps: tuple[tuple[Keep, int], ...]
    stored: frozenset[int]
    ddr: dict[str, int]
    onchip_bytes: int
    ddr_bytes: int

    def keep(self, root: str, stage: int) -> tuple[Keep, int] | None:
        """The whole buffer of a root in this stage, and its address."""
        return next(((k, a) for k, a in self.keeps if k.root == root and k.covers(stage)), None)
