"""`shared_conv: copy`: each further call of a conv gets a copy of it, with a weight of its own."""

from __future__ import annotations

import copy

from qatspec.graph.module import TracedModule
from qatspec.prepare.unit import Unit


def copy_shared_convs(unit: Unit) -> None:
    """Copy the weighted modules that are called several times: `<path>_1`, `<path>_2` and so on.

    `unit.module.copied_convs` holds the path of each copy's original, for checkpoints of the float
    model. Does nothing unless the unit's `prepare` has `shared_conv: copy`.
    """
    assert isinstance(unit.module, TracedModule)
    if unit.config.shared_conv != "copy":
        return
    calls: dict[str, int] = {}
    for group in unit.groups:
        if group.weight is None or group.anchor.op != "call_module":
            continue
        path = str(group.anchor.target)
        calls[path] = calls.get(path, -1) + 1
        if calls[path] == 0:
            continue
        copied = f"{path}_{calls[path]}"
        owner, _, name = copied.rpartition(".")
        clone = copy.deepcopy(unit.module.get_submodule(path))
        unit.module.get_submodule(owner).add_module(name, clone)
        unit.module.copied_convs[copied] = path
        group.anchor.target = copied
