"""What a schema says about one value: its defaults, its parts, and what counts for a digest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from jsonschema import Draft202012Validator

from qatspec.source.pointer import join
from qatspec.types import JSONSchema

#: Schema keyword. false marks a key that changes neither tensors nor metrics; "evaluation" one that
#: changes metrics alone (a decoder's threshold); without it, a key counts as changing tensors.
AFFECTS = "x-qatspec-affects"
Effect = Literal["tensors", "evaluation"]


def facets(schema: Any, value: Any, root: JSONSchema) -> Iterator[JSONSchema]:
    """Every subschema that applies to `value`: `$ref`, `allOf` and `if/then/else` followed."""
    if not isinstance(schema, Mapping):
        return
    yield schema
    if "$ref" in schema:
        yield from facets(_target(schema["$ref"], root), value, root)
    for part in schema.get("allOf", ()):
        yield from facets(part, value, root)
    if "if" in schema:
        branch = "then" if matches(schema["if"], value, root) else "else"
        yield from facets(schema.get(branch), value, root)


def property_schemas(schema: Any, value: Any, root: JSONSchema) -> dict[str, JSONSchema]:
    """The schemas of the keys that a mapping may have here."""
    schemas: dict[str, JSONSchema] = {}
    for facet in facets(schema, value, root):
        for name, part in facet.get("properties", {}).items():
            if isinstance(part, Mapping):
                schemas.setdefault(name, part)
    return schemas


def with_defaults(schema: Any, value: Any, root: JSONSchema | None = None) -> Any:
    """`value` with the defaults of absent keys filled in, at every depth. Nothing is shared."""
    root = schema if root is None else root
    if isinstance(value, Mapping):
        known = property_schemas(schema, value, root)
        filled = dict(value)
        for name, part in known.items():
            default = _default(part, value.get(name), root)
            if name not in filled and default is not None:
                filled[name] = default[0]
        extra = _first(schema, value, root, "additionalProperties")
        return {k: with_defaults(known.get(k, extra), v, root) for k, v in filled.items()}
    if isinstance(value, list | tuple):
        prefix = _first(schema, value, root, "prefixItems") or []
        rest = _first(schema, value, root, "items")
        return [
            with_defaults(prefix[i] if i < len(prefix) else rest, item, root)
            for i, item in enumerate(value)
        ]
    return value


def affecting(
    schema: Any,
    value: Any,
    root: JSONSchema | None = None,
    at: str = "",
    *,
    effect: Effect = "tensors",
) -> dict[str, Any]:
    """Pointer -> scalar, for every value below `at` that changes tensors (or, with
    effect="evaluation", metrics alone).

    Mappings are unordered, lists are ordered; an empty collection counts as itself.
    """
    root = schema if root is None else root
    return {p: v for p, v, kind in _effects(schema, value, root, at, "tensors") if kind == effect}


def _effects(
    schema: Any, value: Any, root: JSONSchema, at: str, effect: Effect
) -> Iterator[tuple[str, Any, Effect]]:
    """(pointer, scalar, effect) of every value below `at` that has an effect."""
    marks = [facet[AFFECTS] for facet in facets(schema, value, root) if AFFECTS in facet]
    if False in marks:
        return
    if "evaluation" in marks:
        effect = "evaluation"
    if not isinstance(value, Mapping | list | tuple) or not value:
        yield at, value, effect
    elif isinstance(value, Mapping):
        known = property_schemas(schema, value, root)
        extra = _first(schema, value, root, "additionalProperties")
        for name in sorted(value):
            part = known.get(name, extra)
            yield from _effects(part, value[name], root, join(at, name), effect)
    else:
        prefix = _first(schema, value, root, "prefixItems") or []
        rest = _first(schema, value, root, "items")
        for i, item in enumerate(value):
            part = prefix[i] if i < len(prefix) else rest
            yield from _effects(part, item, root, join(at, i), effect)


def resolved(schema: Any, root: JSONSchema) -> Any:
    """What a local `$ref` points to; anything else as it is."""
    return (
        _target(schema["$ref"], root)
        if isinstance(schema, Mapping) and "$ref" in schema
        else schema
    )


def _default(part: JSONSchema, value: Any, root: JSONSchema) -> tuple[Any] | None:
    for facet in facets(part, value, root):
        if "default" in facet:
            return (facet["default"],)
    return None


def _first(schema: Any, value: Any, root: JSONSchema, keyword: str) -> Any:
    for facet in facets(schema, value, root):
        if keyword in facet:
            return facet[keyword]
    return None


def _target(ref: str, root: JSONSchema) -> Any:
    target: Any = root
    for key in ref.removeprefix("#/").split("/"):
        target = target[key]
    return target


def matches(condition: Any, value: Any, root: JSONSchema) -> bool:
    """Return whether `value` fits a schema, whose references are into `root`."""
    if not isinstance(condition, Mapping):
        return bool(condition)
    return Draft202012Validator({**condition, "$defs": root.get("$defs", {})}).is_valid(value)
