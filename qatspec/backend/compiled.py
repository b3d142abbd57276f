"""A compiled program, as all passes behind the planning see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qatspec.backend.commands import Command
from qatspec.backend.layers import Layer
from qatspec.backend.packing import Packed
from qatspec.backend.target import Target
from qatspec.backend.views import Home, homes
from qatspec.program import Program, RuntimeInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """All that a bin holds, decoded. ddr: value -> address; sizes in bytes. fed: by the name of an
    input, what stands in DDR in its place, converted while it is loaded. frames: those of a run;
    addresses are those of the first one, with space for the others behind each buffer."""

    program: Program
    target: Target
    opt: str
    cores: int
    packed: Mapping[str, Packed]
    weights: bytes
    layers: tuple[Layer, ...]
    commands: tuple[Command, ...]
    ddr: Mapping[str, int]
    onchip_bytes: int
    ddr_bytes: int
    frames: int = 1
    fed: Mapping[str, RuntimeInput] = field(default_factory=dict)

    @property
    def homes(self) -> Mapping[str, Home]:
        """Where every activation that leaves a layer lies."""
        return homes(self.layers, self.program, self.target)[0]
