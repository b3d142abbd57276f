"""The spec language's schema with what plugins accept, so that editors complete their params."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qatspec.schema.load import spec_schema
from qatspec.types import (
    DatasetDef,
    March,
    ModelDef,
    ObserverDef,
    PrepareConfigDef,
    QConfigDef,
)


def merged_schema(
    *,
    models: Sequence[ModelDef] = (),
    datasets: Sequence[DatasetDef] = (),
    marches: Sequence[March] = (),
    qconfigs: Sequence[QConfigDef] = (),
    prepare_configs: Sequence[PrepareConfigDef] = (),
    observers: Sequence[ObserverDef] = (),
) -> dict[str, Any]:
    """The committed schema with registered names as choices and their own schemas behind them.

    Each choice is told by its name (`if type is x, then params are ...`): no oneOf, so that an
    editor's complaint is about the branch that was meant.
    """
    schema: dict[str, Any] = copy.deepcopy(dict(spec_schema()))
    defs: dict[str, Any] = schema["$defs"]
    properties: dict[str, Any] = schema["properties"]
    _choose(properties["march"], [m.name for m in marches])
    _typed(properties["model"], "model", models, defs)
    _typed(defs["data_role"], "dataset", datasets, defs)
    _choose(defs["qspec"]["properties"]["observer"], [o.name for o in observers])
    presets = [name for q in qconfigs for name in (q.name, *q.aliases)]
    for where in ("qconfig", "rule_value"):
        _text_choices(defs[where], presets)
    prepares = [name for p in prepare_configs for name in (p.name, *p.aliases)]
    _text_choices(defs["prepare"], prepares)
    _choose(defs["prepare"]["properties"]["preset"], prepares)
    _branch(
        schema,
        [
            _if({"march": m.name}, {"stages": {"properties": {"compile": _definition(m, defs)}}})
            for m in marches
        ],
    )
    return schema


def _choose(part: dict[str, Any], names: Iterable[str]) -> None:
    if choices := sorted(names):
        part["enum"] = choices


def _text_choices(part: dict[str, Any], names: Iterable[str]) -> None:
    """Choices for the text form of a value that may be a mapping too."""
    if choices := sorted(names):
        part["if"] = {"type": "string"}
        part["then"] = {"enum": choices}


def _typed(
    part: dict[str, Any],
    kind: str,
    records: Sequence[ModelDef] | Sequence[DatasetDef],
    defs: dict[str, Any],
) -> None:
    _choose(part["properties"]["type"], [r.name for r in records])
    _branch(
        part,
        [
            _if({"type": r.name}, {"params": _embed(f"{kind}.{r.name}", r.params, r.summary, defs)})
            for r in records
        ],
    )


def _branch(part: dict[str, Any], branches: list[dict[str, Any]]) -> None:
    if branches:  # JSON Schema forbids an empty allOf
        part["allOf"] = branches


def _if(value: Mapping[str, str], then: Mapping[str, Any]) -> dict[str, Any]:
    condition = {name: {"const": const} for name, const in value.items()}
    return {
        "if": {"required": list(value), "properties": condition},
        "then": {"properties": dict(then)},
    }


def _definition(march: March, defs: dict[str, Any]) -> dict[str, str]:
    return _embed(f"march.{march.name}", march.options, march.summary, defs)


def _embed(
    name: str, schema: Mapping[str, Any], summary: str, defs: dict[str, Any]
) -> dict[str, str]:
    """Put a record's schema under $defs, its own local references turned to its new place."""
    root = f"#/$defs/{name}"

    def moved(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {
                k: root + v[1:] if k == "$ref" and isinstance(v, str) and v[:1] == "#" else moved(v)
                for k, v in value.items()
            }
        return [moved(v) for v in value] if isinstance(value, list | tuple) else value

    defs[name] = {"description": summary, **moved(schema)}
    return {"$ref": root}
