"""What the marches nash_e, nash_m and nash_p are taken to be: experimental.

Printed are the chips, their cores and two clocks. Limits of ops are assumed to be those of bayes,
the march before; the vendor's pages for these chips describe another compiler, whose rules of
numbers may differ (tails of nash-p leave the chip as floats of 16 bits there, as int32 here).
Figures of the model of time are fitted to published times of RDK S100.
"""

from __future__ import annotations

from dataclasses import replace

from qatspec.api import Capabilities, Hardware
from qatspec_horizon.capabilities import BAYES, BAYES_HOST

#: Why a plan and a report call these marches experimental.
EXPERIMENTAL = "limits of ops and rounding are assumed to be those of bayes; times are modelled"

_S100 = "rows of RDK S100 marked fit (README)"

_E = Hardware(
    cores=1,
    clock_mhz=1000,
    macs_per_cycle=21500,
    depthwise_macs_per_cycle=2500,
    vector_lanes=256,
    onchip_bytes=3 * 1024 * 1024,
    ddr_bytes_per_us=30000,
    start_overhead_us=1.4,
    run_overhead_us=0.0,
    port_bytes_per_cycle=256,
    softmax_lanes=16.0,
    table_lanes=16.0,
    align_width=8,
    align_channels_in=4,
    align_channels_out=8,
    accuracy="experimental: 5 rows that were not fitted: 17 % median, 23 % worst",
    fitted={
        "cores": "printed: RDK S100 is measured on one core",
        "clock_mhz": "printed: RDK S100 is measured at 1.0 GHz",
        "macs_per_cycle": f"fitted: {_S100}",
        "depthwise_macs_per_cycle": f"fitted: {_S100}",
        "vector_lanes": "assumed: those of bayes",
        "table_lanes": f"fitted: {_S100}",
        "softmax_lanes": "assumed: the ratio of X5 to its array",
        "onchip_bytes": "assumed: the vendor prints two levels of memory without sizes",
        "ddr_bytes_per_us": f"fitted: {_S100}",
        "start_overhead_us": f"fitted: {_S100}",
        "port_bytes_per_cycle": "assumed: no row tells it from the array",
        "align_width": "assumed: that of bayes",
        "align_channels_in": "assumed: that of bayes",
        "align_channels_out": "assumed: that of bayes",
    },
)

_M = replace(
    _E,
    clock_mhz=1500,
    accuracy="experimental: 6 rows that were not fitted: 14 % median, 22 % worst",
    fitted={
        **{
            name: "assumed: that of nash_e"
            for name, text in _E.fitted.items()
            if text.startswith("fitted")
        },
        "cores": "printed: RDK S100P is measured on one core",
        "clock_mhz": "printed: RDK S100P is measured at 1.5 GHz",
    },
)

_P = replace(
    _M,
    cores=4,
    macs_per_cycle=28000,
    accuracy="experimental: not compared with published times",
    fitted={
        **{name: text.replace("nash_e", "nash_m") for name, text in _M.fitted.items()},
        "cores": "printed: RDK S600 is measured on four cores",
        "clock_mhz": "assumed: that of nash_m",
        "macs_per_cycle": "assumed: 1.3 times that of nash_m",
    },
)


def _abilities(hardware: Hardware) -> Capabilities:
    return Capabilities(host=BAYES_HOST, hardware=hardware, max_lsb=BAYES.max_lsb, ops=BAYES.ops)


NASH_E, NASH_M, NASH_P = _abilities(_E), _abilities(_M), _abilities(_P)
