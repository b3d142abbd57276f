"""A march that is compiled by qatspec's own tiling backend, from its capabilities alone."""

from __future__ import annotations

from typing import Any

from qatspec.types.capabilities import Capabilities
from qatspec.types.lazy import lazy
from qatspec.types.records import March


def tiled_march(*, name: str, version: int, capabilities: Capabilities, **fields: Any) -> March:
    """The record of such a march; it loads no torch.

    capabilities  with `hardware` and `ops`.
    fields        every other field of March (summary, chips, arithmetic, options, ...).

    Raises ValueError where the capabilities state no hardware or no ops.
    """
    if capabilities.hardware is None or capabilities.ops is None:
        raise ValueError(f"march `{name}` states no hardware or no ops")
    march = name, version, capabilities
    return March(
        name=name,
        version=version,
        capabilities=capabilities,
        supports=lazy("qatspec.backend.tiled:supports", *march),
        compile=lazy("qatspec.backend.tiled:compile_program", *march),
        run=lazy("qatspec.backend:run_compiled"),
        **fields,
    )
