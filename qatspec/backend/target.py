"""What the backend reads of a march's capabilities: hardware figures and the limits of each op."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A march as the backend sees it.

    macs_per_cycle            dense convolutions and linear, per core, int8.
    depthwise_macs_per_cycle  convolutions with one input channel a group, per core.
    vector_lanes              elements a cycle of everything else, per core.
    onchip_bytes              memory shared by the cores; ddr_bytes_per_us: effective bandwidth.
    start_overhead_us         to start one execute command; run_overhead_us: once a run.
    align_*                   width and channels are padded to these multiples (8W4C).
    ops                       op kind -> {"dtypes": [...], "limits": [...]}, see `legalise`.
    """

    march: str
    version: int
    cores: int
    clock_mhz: float
    macs_per_cycle: int
    depthwise_macs_per_cycle: int
    vector_lanes: int
    onchip_bytes: int
    ddr_bytes_per_us: float
    start_overhead_us: float
    run_overhead_us: float
    align_width: int
    align_channels_in: int
    align_channels_out: int
    ops: Mapping[str, Any]

    @classmethod
    def from_capabilities(cls, capabilities: Mapping[str, Any]) -> Target:
        """Read a March's `capabilities`. Raises KeyError where a figure is missing."""
        hardware = capabilities["hardware"]
        align = hardware["align"]
        return cls(
            march=capabilities["march"],
            version=capabilities["version"],
            align_width=align["width"],
            align_channels_in=align["channels_in"],
            align_channels_out=align["channels_out"],
            ops=capabilities["ops"],
            **{key: value for key, value in hardware.items() if key != "align"},
        )

    def cycles_to_us(self, cycles: float) -> float:
        """Time of `cycles` of one core."""
        return cycles / self.clock_mhz


def align(size: int, to: int) -> int:
    """The smallest multiple of `to` that holds `size`."""
    return -(-size // to) * to
