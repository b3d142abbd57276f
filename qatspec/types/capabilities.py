"""Capabilities of a march: typed data, checked when the plugin is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

#: Measure of an op that a Limit may bound -> its numbers.
MEASURES: Mapping[str, str] = {
    "channels": "channels of the operand or the result, whichever has more",
    "kernel": "height and width of a window or of a weight",
    "stride": "of a window, down and across",
    "dilation": "of a window, down and across",
    "padding": "top, left, bottom, right",
    "groups": "of a convolution; 1 of a linear layer",
    "channels_in_per_group": "input channels that one output channel reads",
    "channels_out": "output channels of an op with a weight",
    "kernel_volume": "channels_in_per_group times the kernel's height and width",
    "stride_with_dilation": "the stride of a convolution whose dilation is above 1",
    "stride_with_residual": "the stride of a convolution to whose sums another tensor is added",
    "area": "numbers that one result of a reduction is computed from",
    "scale_factor": "size after a resize over the size before, down and across; 0 for a fraction",
    "align_corners": "0 or 1, of a resize",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A bound of one measure of an op. Raises ValueError for a measure that no op has.

    A measure may give several numbers (height and width): each must hold. An op without the measure
    (a padding of a linear layer) meets the limit.

    of             the measure, a key of `MEASURES`.
    low, high      smallest and largest number.
    one_of         the numbers that are allowed, any where it is empty.
    power_of_two   whether each number must be a power of two.
    unless_groups  ops with this number of groups are left to the other limits.
    """

    of: str
    low: int | None = None
    high: int | None = None
    one_of: tuple[int, ...] = ()
    power_of_two: bool = False
    unless_groups: int | None = None

    def __post_init__(self) -> None:
        if self.of not in MEASURES:
            known = ", ".join(MEASURES)
            raise ValueError(f"no op has the measure `{self.of}`; there are {known}")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpSupport:
    """The ops of one integer kind that a march takes.

    dtypes   of the activations. weights: of the constant weight, for kinds that have one.
    limits   of sizes and attributes.
    results  where an op can choose its result; every dtype where it is empty.
    forms    of a requantization, which other kinds do not have (qatspec.types.Arithmetic).
    """

    dtypes: tuple[str, ...]
    weights: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    forms: tuple[str, ...] = ("single",)
    limits: tuple[Limit, ...] = ()


_MAY_BE_ZERO = (
    "start_overhead_us",
    "run_overhead_us",
    "port_bytes_per_cycle",
    "softmax_lanes",
    "table_lanes",
    "ddr_stall",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """The figures of the model of time and memory, from the vendor's pages or fitted to published
    times.

    cores                     how many compute at once; clock_mhz: their clock, in MHz.
    macs_per_cycle            dense convolutions and linear, per core, int8.
    depthwise_macs_per_cycle  convolutions with one input channel a group, per core.
    vector_lanes              elements a cycle of everything else, per core.
    softmax_lanes             elements a cycle of quotients and of the exponentials of a softmax; 0:
                              as many as of everything else.
    table_lanes               elements a cycle of a table behind a convolution; 0: without a cost.
    onchip_bytes              memory for one frame, in bytes.
    ddr_bytes_per_us          effective bandwidth of the memory outside, in bytes a microsecond.
    start_overhead_us         to start one layer, in microseconds.
    run_overhead_us           once a run, in microseconds.
    port_bytes_per_cycle      features that a core reads and writes on chip, in bytes a cycle; 0:
                              without limit.
    ddr_stall                 share of the time of a transfer through DDR that a core loses where it
                              computes meanwhile, 0 to 1; 0: both run side by side.
    align_width, align_channels_in, align_channels_out: width and channels are padded to these
                              multiples.
    accuracy                  how near the modelled latency comes to published times, in words.
    fitted                    figure -> what it rests on, where the vendor prints none.
    """

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
    port_bytes_per_cycle: float = 0
    softmax_lanes: float = 0
    table_lanes: float = 0
    ddr_stall: float = 0
    accuracy: str = ""
    fitted: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        words = ("fitted", "accuracy")
        figures = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in words}
        for name, value in figures.items():
            if value < 0 or (value == 0 and name not in _MAY_BE_ZERO):
                raise ValueError(f"{name} is {value}")
        if unknown := sorted(set(self.fitted) - set(figures)):
            raise ValueError(
                f"`fitted` explains {unknown[0]}, which is not a figure of the hardware"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCpu:
    """The CPU beside the chip, and the ops that a march leaves to it.

    ops              integer kind, or op of the model ("softmax") -> why the chip does not run it.
    elements_per_us  numbers that it reads or writes, in numbers a microsecond.
    start_us         to hand a layer to it and to go on behind it, in microseconds.
    """

    ops: Mapping[str, str]
    elements_per_us: float
    start_us: float

    def __post_init__(self) -> None:
        if self.elements_per_us <= 0 or self.start_us < 0:
            raise ValueError("the CPU of a march takes time: `elements_per_us`, `start_us`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """ops: integer kind -> what the march takes of it; None: every op, of any dtype and size.
    hardware: for marches that are compiled by `qatspec.api.tiled_march`.
    host: the ops that run on the CPU beside the chip; None: what is not in `ops` is refused.
    max_lsb: integer kind -> steps by which the march's arithmetic may differ from fake-quant."""

    ops: Mapping[str, OpSupport] | None = None
    hardware: Hardware | None = None
    host: HostCpu | None = None
    max_lsb: Mapping[str, int] = field(default_factory=dict)
