"""qconfig of the spec language (and of the Python API) to rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from qatspec.diag import Diagnostic, DiagnosticError, Note
from qatspec.diag.codes import QS203, QS313
from qatspec.registry import Registry, registry as installed
from qatspec.schema import check, spec_schema, with_defaults
from qatspec.source.pointer import join
from qatspec.spec.collect import Findings
from qatspec.spec.model import QConfigRules, Rule
from qatspec.spec.regex import check_regex
from qatspec.spec.symbols import symbol
from qatspec.spec.torch_names import check_op
from qatspec.types import QConfig, QSpec

_KINDS = ("object_type", "module_name_regex", "module_name", "module_name_object_type_order")


def qconfig_rules(value: Any, at: str = "", registry: Registry | None = None) -> QConfigRules:
    """Rules from a preset's name, a QConfig, None, or a mapping of the spec language.

    Through Python, mappings may hold QConfig and QSpec objects as values and classes and functions
    as keys. Raises DiagnosticError with everything found: QS201, QS203 and their like for the
    shape, QS301 for names, QS310 and QS311 for regexes.
    """
    names = registry or installed()
    if isinstance(value, QConfigRules):
        return value
    if not isinstance(value, Mapping):
        config, preset = _value(value, at, names)
        only_rule = Rule(kind="global", key="", value=config, preset=preset, at=at)
        return QConfigRules(rules=(only_rule,), at=at)
    shape = {"$ref": "#/$defs/qconfig", "$defs": spec_schema()["$defs"]}
    if wrong := check(_plain(value), shape, at):
        raise DiagnosticError(wrong)
    value = with_defaults(shape, value)
    findings = Findings()
    findings.add(_unknown_ops(value, at, names))
    rules: list[Rule] = []
    for kind, key, raw, pointer in _entries(value, at):
        with findings:
            if kind == "module_name_regex":
                check_regex(key, pointer)
            config, preset = _value(raw, pointer, names)
            rules.append(Rule(kind=kind, key=key, value=config, preset=preset, at=pointer))
    findings.stop()
    return QConfigRules(rules=tuple(rules), precedence=value["precedence"], at=at)


def repeated_rules(rules: QConfigRules) -> list[Diagnostic]:
    """A warning for each rule that an equal key before it keeps from ever winning."""
    first: dict[Any, Rule] = {}
    diagnostics = []
    for rule in rules.rules:
        before = first.setdefault((rule.kind, rule.key), rule)
        if before is not rule:
            diagnostics.append(
                QS313.warning(
                    f"the rule for `{rule.key}` never wins: the same key stands before it",
                    help="delete this one, or the one before it if this one is meant",
                    at=rule.at,
                    notes=(Note("it stands before it here", at=before.at),),
                )
            )
    return diagnostics


def _entries(value: Mapping[str, Any], at: str) -> list[tuple[Any, Any, Any, str]]:
    """(kind, key, value, pointer of the rule), in the order they are written."""
    entries: list[tuple[Any, Any, Any, str]] = []
    if "" in value:
        entries.append(("global", "", value[""], join(at, "")))
    for kind in _KINDS:
        group = value.get(kind, {})
        if isinstance(group, Mapping):
            entries += [(kind, symbol(k), v, join(at, kind, symbol(k))) for k, v in group.items()]
            continue
        for i, row in enumerate(group):
            pointer = join(at, kind, i)
            if kind == "module_name_object_type_order":
                entries.append((kind, (row[0], symbol(row[1]), row[2]), row[3], pointer))
            else:
                entries.append((kind, symbol(row[0]), row[1], pointer))
    return entries


def _unknown_ops(value: Mapping[Any, Any], at: str, names: Registry) -> Iterator[Diagnostic]:
    """What is wrong with the ops that rules name; objects of the Python API name themselves."""
    group = value.get("object_type", {})
    order = value.get("module_name_object_type_order", ())
    places = [
        (join(at, "module_name_object_type_order", i, 1), row[1]) for i, row in enumerate(order)
    ]
    if isinstance(group, Mapping):
        for op in group:
            if isinstance(op, str):
                yield from check_op(op, join(at, "object_type", op), names, key=True)
    else:
        places += [(join(at, "object_type", i, 0), row[0]) for i, row in enumerate(group)]
    for pointer, op in places:
        if isinstance(op, str):
            yield from check_op(op, pointer, names)


def _value(raw: Any, at: str, names: Registry) -> tuple[QConfig | None, str | None]:
    """A rule's value and the name of the preset it came from."""
    if raw is None:
        return None, None
    if isinstance(raw, QConfig):
        raw = {"activation": raw.activation, "weight": raw.weight}
    if isinstance(raw, str):
        preset = names.qconfig(raw, at)
        return preset.config, preset.name
    if not isinstance(raw, Mapping):
        raise QS203.error(
            f"a qconfig cannot be {type(raw).__name__}",
            help="give a preset's name, a mapping, a QConfig or None",
            at=at,
        )
    activation, weight = (_qspec(raw[k], join(at, k), names) for k in ("activation", "weight"))
    return QConfig(activation=activation, weight=weight), None


def _qspec(raw: Any, at: str, names: Registry) -> QSpec | None:
    if raw is None:
        return None
    values = asdict(raw) if isinstance(raw, QSpec) else raw
    if wrong := check(values, {"$ref": "#/$defs/qspec", "$defs": spec_schema()["$defs"]}, at):
        raise DiagnosticError(wrong)
    names.observer(values["observer"], join(at, "observer"))
    return QSpec(**values)


def _plain(value: Any) -> Any:
    """A mapping of the Python API as the JSON that its schema describes."""
    if isinstance(value, Mapping):
        return {symbol(k): _plain(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(v) for v in value]
    if isinstance(value, QConfig | QSpec):
        return {}
    return value if isinstance(value, str | int | float | bool | None) else symbol(value)
