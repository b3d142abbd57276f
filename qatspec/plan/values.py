"""The values of a spec that have an effect: pointer -> scalar, defaults filled in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from qatspec.registry import Registry
from qatspec.schema import Effect, affecting, spec_schema, with_defaults
from qatspec.source.pointer import join
from qatspec.spec import Spec

#: Ordered mappings of the spec language: the order of qconfig rules decides.
_ORDERED = ("object_type", "module_name_regex")


def spec_values(spec: Spec, names: Registry, effect: Effect) -> dict[str, Any]:
    """Pointer -> value for everything in the spec that has the effect."""
    settings = affecting(
        spec_schema(), with_defaults(spec_schema(), spec.document.data), effect=effect
    )
    if effect == "tensors":
        settings = _ordered_rules(settings, spec.document.data)
    components = {"/model": (spec.model, names.model(spec.model.type).params)}
    for role in spec.data.values():
        record = names.dataset(role.dataset.type)
        components[role.dataset.at] = (role.dataset, record.params)
    for at, (component, schema) in components.items():
        params = join(at, "params")
        settings = {p: v for p, v in settings.items() if not within(p, (params,))}
        settings.update(affecting(schema, component.params, at=params, effect=effect))
        if effect == "tensors":
            settings[join(at, "type")] = component.type  # an alias means the same thing
    for name in ("calibration", "qat"):
        if name not in spec.document.data["data"]:
            settings.update(_as_train(name, settings))
    if "compile" in spec.stages:
        at = "/stages/compile"
        settings = {p: v for p, v in settings.items() if not within(p, (at,))}
        options = spec.stages["compile"].options
        settings.update(affecting(names.march(spec.march).options, options, at=at, effect=effect))
    return settings


def _as_train(role: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Without a role of its own, calibration or qat depends on the train role."""
    train = "/data/train"
    return {
        f"/data/{role}" + p.removeprefix(train): v
        for p, v in settings.items()
        if within(p, (train,))
    }


def _ordered_rules(settings: dict[str, Any], data: Any) -> dict[str, Any]:
    """The order of rules written as mappings, which `affecting` takes for unordered."""

    def visit(value: Any, at: str) -> None:
        if not isinstance(value, Mapping):
            return
        for key, child in value.items():
            pointer = join(at, key)
            if key in _ORDERED and isinstance(child, Mapping):
                settings[f"{pointer}#order"] = list(child)
            visit(child, pointer)

    visit(data.get("quantize"), "/quantize")
    visit(data.get("stages"), "/stages")
    return settings


def within(pointer: str, parts: Iterable[str]) -> bool:
    """Return whether a pointer lies at or below one of `parts`."""
    return any(pointer == part or pointer.startswith((part + "/", part + "#")) for part in parts)
