"""A march that is compiled by qatspec's own tiling backend, from its capabilities alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qatspec.types.capabilities import Capabilities
from qatspec.types.lazy import lazy
from qatspec.types.records import NO_PARAMS, JSONSchema, March

#: Properties for `March.options` of a tiled march: the options of `assemble`, with their defaults.
#: `tiled_march` bounds `cores` by the number that the march's hardware has.
TILED_OPTIONS: Mapping[str, JSONSchema] = {
    "opt": {
        "enum": ["O0", "O1", "O2", "O3", "ddr", "fast", "balance"],
        "default": "O2",
        "description": (
            "effort: O0 one buffer, every value through DDR; O1 loads, compute and stores "
            "overlap; O2 layers run fused, strip by strip, and values stay on chip where they "
            "fit; O3 plans in more ways and takes the one with the lowest modelled latency. ddr "
            "moves the fewest bytes, fast weighs latency alone, balance both, with fewer tries. "
            "The integers never differ"
        ),
    },
    "cores": {
        "type": "integer",
        "minimum": 1,
        "default": 1,
        "description": "cores that one frame is split over",
    },
    "batch": {
        "type": "integer",
        "minimum": 1,
        "maximum": 4096,
        "default": 1,
        "description": (
            "frames of a run: every command works on all of them, so constants are loaded and "
            "layers started once a run, and values take so many times the memory"
        ),
    },
    "verify": {
        "type": "boolean",
        "default": True,
        "description": (
            "run one frame tile by tile from the encoded commands and compare every layer's "
            "integers with the Program before anything is written; false saves that time "
            "(seconds at 512 px)"
        ),
    },
    "chip_only": {
        "type": "boolean",
        "default": False,
        "description": "refuse what the chip leaves to the CPU, instead of running it there",
    },
}


def tiled_march(*, name: str, version: int, capabilities: Capabilities, **fields: Any) -> March:
    """Make the record of a march that qatspec's own tiling backend compiles. It imports no torch.

    name          the march's name in specs.
    version       changes when its bytes do.
    capabilities  with `hardware` and `ops`.
    fields        every other field of March (summary, chips, arithmetic, options, ...).

    Returns the March. Raises ValueError where the capabilities state no hardware or no ops.
    """
    if capabilities.hardware is None or capabilities.ops is None:
        raise ValueError(f"march `{name}` states no hardware or no ops")
    march = name, version, capabilities
    options = _bounded(fields.pop("options", NO_PARAMS), capabilities.hardware.cores)
    return March(
        name=name,
        version=version,
        capabilities=capabilities,
        supports=lazy("qatspec.backend.tiled:supports", *march),
        compile=lazy("qatspec.backend.tiled:compile_program", *march),
        run=lazy("qatspec.backend.machine:run_compiled"),
        options=options,
        **fields,
    )


def _bounded(options: JSONSchema, cores: int) -> JSONSchema:
    """The options, whose `cores` has the chip's number as its maximum where it states none."""
    properties = options.get("properties", {})
    if "cores" not in properties:
        return options
    bounded = {"maximum": cores, **properties["cores"]}
    return {**options, "properties": {**properties, "cores": bounded}}
