"""Suggested rules as a spec that extends the one they are for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from qatspec.analyze.sites import Site
from qatspec.source.pointer import join, split
from qatspec.spec import Call, QConfigRules, Spec, qconfig_rules
from qatspec.spec.model import ModuleQuant
from qatspec.spec.opset import WIDE_OPSET
from qatspec.types import QConfig, QSpec

#: qint16: results of 16 bits; float: not quantized at all
Remedy = Literal["qint16", "float"]

#: Observers that clip what is rare. 16 bits hold the whole range, and need not.
_CLIPPING = ("percentile", "mse", "kl", "mix")


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What to do about a site."""

    site: Site
    remedy: Remedy


def patch(spec: Spec, base: str, name: str, suggestions: Sequence[Suggestion]) -> dict[str, Any]:
    """The content of a spec file called `name` that extends `base` and applies `suggestions` in
    every stage that quantizes. Where the rules of the nearest module win, those of each stage are
    written in full. An ONNX opset that the spec sets is raised where it cannot hold 16 bits."""
    content: dict[str, Any] = {"extends": [base], "name": name}
    for stage in ("calibration", "qat"):
        if stage not in spec.stages:
            continue
        for leaf in spec.quantization(stage):
            of_leaf = [s for s in suggestions if s.site.calls[0].unit == leaf.path]
            if of_leaf:
                path = _qconfig_keys(stage, leaf)
                _put(content, path, qconfig_patch(spec, leaf, of_leaf, join("", *path)))
    opset = spec.stages["convert"].options["opset"] if "convert" in spec.stages else None
    wide = any(s.remedy == "qint16" for s in suggestions)
    if wide and opset is not None and opset < WIDE_OPSET:
        content["stages"]["convert"] = {"opset": WIDE_OPSET}
    return content


def patched_leaves(
    spec: Spec, stage: str, suggestions: Sequence[Suggestion]
) -> dict[str, ModuleQuant]:
    """The modules of `stage` as they would be prepared with the patch."""
    leaves = {}
    for leaf in spec.quantization(stage):
        of_leaf = [s for s in suggestions if s.site.calls[0].unit == leaf.path]
        rules = qconfig_rules(qconfig_patch(spec, leaf, of_leaf)) if of_leaf else leaf.qconfig
        leaves[leaf.path] = replace(leaf, qconfig=rules)
    return leaves


def qconfig_patch(
    spec: Spec, leaf: ModuleQuant, suggestions: Sequence[Suggestion], at: str = ""
) -> dict[str, Any]:
    """The rules of `leaf` with those of `suggestions` before them, as the spec language has them.
    Where the rules lie at `at` themselves, the new ones alone: `extends` puts them first."""
    assert leaf.qconfig is not None
    rules = leaf.qconfig
    raw = _value_at(spec.document.data, rules.at)
    content = dict(raw) if isinstance(raw, Mapping) else {"": raw}
    new: dict[str, Any] = {}
    for suggestion in suggestions:
        _add(new, rules, suggestion)
    if rules.at == at and isinstance(raw, Mapping):
        return new
    return {**content, **{kind: _before(added, content.get(kind)) for kind, added in new.items()}}


def _add(new: dict[str, Any], rules: QConfigRules, suggestion: Suggestion) -> None:
    """By the module's name where that rule would win at every call, else call by call."""
    calls = suggestion.site.calls
    values = [_value(call.decide(rules).qconfig, suggestion.remedy) for call in calls]
    if ":" not in suggestion.site.name and _wins(rules, calls[0], values[0]):
        new.setdefault("module_name", {})[calls[0].module] = values[0]
        return
    rows = new.setdefault("module_name_object_type_order", [])
    own_module = ":" not in suggestion.site.name
    for call, value in zip(calls, values, strict=True):
        scope = call.module.rpartition(".")[0] if own_module else call.module
        rows.append([scope, call.names[0], call.index, value])


def _wins(rules: QConfigRules, call: Call, value: Any) -> bool:
    rule = qconfig_rules({"module_name": {call.module: value}}).rules[0]
    changed = replace(rules, rules=(rule, *rules.rules))
    return call.decide(changed).winner is rule


def _value(qconfig: QConfig | None, remedy: Remedy) -> Any:
    if remedy == "float" or qconfig is None or qconfig.activation is None:
        return None
    activation, default = qconfig.activation, QConfig()
    observer = "min_max" if activation.observer in _CLIPPING else activation.observer
    wide = replace(activation, dtype="qint16", observer=observer)
    rule: dict[str, Any] = {"activation": _qspec(wide, default.activation)}
    weight = _qspec(qconfig.weight, default.weight)
    return rule if weight == {} else {**rule, "weight": weight}


def _qspec(qspec: QSpec | None, default: QSpec | None) -> dict[str, Any] | None:
    """What differs from the default of the spec language."""
    if qspec is None:
        return None
    return {
        f.name: getattr(qspec, f.name)
        for f in fields(QSpec)
        if getattr(qspec, f.name) != getattr(default, f.name)
    }


def _before(added: Any, existing: Any) -> Any:
    """The new rules of one kind, then those that were there; mappings or lists of pairs."""
    if not existing:
        return added
    if isinstance(added, Mapping) and isinstance(existing, Mapping):
        return {**added, **{k: v for k, v in existing.items() if k not in added}}
    return [*_rows(added), *_rows(existing)]


def _rows(rules: Any) -> list[Any]:
    return [[k, v] for k, v in rules.items()] if isinstance(rules, Mapping) else list(rules)


def _qconfig_keys(stage: str, leaf: ModuleQuant) -> list[str]:
    """Keys down to where `stage` has the rules of `leaf` for itself."""
    keys = split(leaf.at)
    inside = keys[keys.index("quantize") + 1 :] if "quantize" in keys else []
    return ["stages", stage, "quantize", *inside, "qconfig"]


def _put(content: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for key in path[:-1]:
        content = content.setdefault(key, {})
    content[path[-1]] = value


def _value_at(data: Any, pointer: str) -> Any:
    for key in split(pointer):
        data = data[int(key) if isinstance(data, list) else key]
    return data
