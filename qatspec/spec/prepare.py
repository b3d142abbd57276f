"""prepare of the spec language (and of the Python API) to a PrepareConfig."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from qatspec.diag import DiagnosticError
from qatspec.registry import Registry, registry as installed
from qatspec.schema import check, spec_schema
from qatspec.source.pointer import join
from qatspec.spec.collect import Findings
from qatspec.spec.qconfig import qconfig_rules
from qatspec.spec.symbols import symbol
from qatspec.spec.torch_names import check_class, check_classes
from qatspec.types import PrepareConfig, Standalone

_MAPPINGS = (
    "additional_fuser_method_mapping",
    "additional_qat_module_mapping",
    "additional_fusion_pattern",
    "additional_quant_pattern",
    "float_to_observed_custom_module_class",
    "observed_to_quantized_custom_module_class",
)


def prepare_config(value: Any, at: str = "", registry: Registry | None = None) -> PrepareConfig:
    """A PrepareConfig from a preset's name, None, or a mapping of the spec language.

    Through Python, classes and functions stand for their names. `preset` names what the other keys
    are put over. Raises DiagnosticError with everything found: QS2xx for the shape, QS301.
    """
    names = registry or installed()
    if value is None:
        return PrepareConfig()
    if isinstance(value, PrepareConfig):
        return value
    if isinstance(value, str):
        return names.prepare_config(value, at).config
    shape = {"$ref": "#/$defs/prepare", "$defs": spec_schema()["$defs"]}
    if wrong := check(_named(value), shape, at):
        raise DiagnosticError(wrong)
    findings = Findings()
    base = PrepareConfig()
    if "preset" in value:
        with findings:
            base = names.prepare_config(value["preset"], join(at, "preset")).config
    changed: dict[str, Any] = {}
    for key, setting in value.items():
        if key in (*_MAPPINGS, "non_traceable_module_class"):
            findings.add(check_classes(setting, join(at, key), names))
        with findings:
            if key.startswith("standalone_module"):
                changed[key] = _standalone(setting, join(at, key), names)
            elif key in _MAPPINGS:
                changed[key] = _mapping(setting)
            elif isinstance(setting, Sequence) and not isinstance(setting, str):
                changed[key] = tuple(setting)
            elif key != "preset":
                changed[key] = setting
    findings.stop()
    return dataclasses.replace(base, **changed)


def _standalone(setting: Sequence[Any], at: str, names: Registry) -> tuple[Standalone, ...]:
    field = "name" if at.endswith("_name") else "class"
    items = []
    findings = Findings()
    for i, raw in enumerate(setting):
        pointer = join(at, i)
        entry = raw if isinstance(raw, Mapping) else {field: raw}
        if isinstance(entry.get("class"), str):
            pointer_of_class = join(pointer, "class") if isinstance(raw, Mapping) else pointer
            findings.add(check_class(entry["class"], pointer_of_class, names))
        qconfig = entry.get("qconfig")
        prepare = entry.get("prepare")
        items.append(
            Standalone(
                name=entry.get("name"),
                cls=entry.get("class"),
                qconfig=qconfig_rules(qconfig, join(pointer, "qconfig"), names)
                if qconfig is not None
                else None,
                prepare=prepare_config(prepare, join(pointer, "prepare"), names)
                if prepare is not None
                else None,
                at=pointer,
            )
        )
    findings.stop()
    return tuple(items)


def _mapping(setting: Any) -> dict[Any, Any]:
    pairs = setting.items() if isinstance(setting, Mapping) else setting
    return {_tuple(key): value for key, value in pairs}


def _tuple(key: Any) -> Any:
    """A nested pattern, written as lists, as the key of a mapping."""
    return tuple(_tuple(part) for part in key) if isinstance(key, list | tuple) else key


def _named(value: Any) -> Any:
    """A mapping of the Python API as the JSON that its schema describes."""
    if isinstance(value, Mapping):
        if any(not isinstance(key, str) for key in value):
            return [[_named(key), _named(item)] for key, item in value.items()]
        return {key: _named(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_named(item) for item in value]
    return symbol(value)
