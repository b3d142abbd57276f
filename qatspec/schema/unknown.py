"""Keys that a mapping does not take, and what was meant: another name, place or kind."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from jsonschema import ValidationError

from qatspec.diag import Diagnostic, Fix
from qatspec.diag.codes import QS201
from qatspec.diag.words import nearest, quote_list, sure_correction
from qatspec.schema.walk import matches, property_schemas, resolved
from qatspec.source import scalars
from qatspec.source.pointer import join
from qatspec.source.write import flow
from qatspec.types import JSONSchema

#: Names of the community QAT tutorial, and what they are called in a spec.
_TUTORIAL = {
    "custom_config_dict": "quantize",
    "qconfig_dict": "qconfig",
    "prepare_custom_config_dict": "prepare",
}
#: Names of other YAML formats for the files that a spec begins with.
_BASES = (
    "_base_",
    "base",
    "bases",
    "defaults",
    "import",
    "imports",
    "include",
    "includes",
    "inherit",
)
#: Keys of HAT's trainers that are values of another key here: that key, and how to write them.
_AS_VALUES = {"sync_bn": ("batch_norm", "true: `batch_norm: synchronized`; false: leave it out")}


def unknown_keys(error: ValidationError, root: JSONSchema, at: str) -> Iterator[Diagnostic]:
    """QS201 for each key that the closed mapping at `at` does not take, with where it belongs."""
    value = cast("Mapping[str, Any]", error.instance)
    known = property_schemas(error.schema, value, root)
    closed = cast("Mapping[str, Any]", error.schema)  # the part that refuses the key
    allowed = list({**known, **closed.get("properties", {})})
    free = [k for k in allowed if k not in value]
    for key in value:
        if key in allowed:
            continue
        plain = " ".join(key.split())
        meant = "extends" if not at and key in _BASES else _TUTORIAL.get(key, plain)
        near = nearest(meant, free) or nearest(meant, allowed)
        other, written = _AS_VALUES.get(key, ("", ""))
        if other and other in allowed:
            advice = written
        elif value[key] is None and (pair := _without_space(key, allowed)):
            near, advice = None, f"write a space behind the colon: `{pair}`"
        elif near is None:
            advice = _elsewhere(key, error, root, allowed)
        elif plain != key:
            advice = f"a non-breaking space is part of this key: write `{near}`, with plain spaces"
        else:
            advice = f"did you mean `{near}`?"
        sure = sure_correction(meant, free) if near else None
        free = [k for k in free if k != sure]  # one slip a key: two would make it stand twice
        yield QS201.diagnostic(
            f"unknown key `{key}`",
            help=advice,
            at=join(at, key),
            key=True,
            fix=Fix(f"`{key}` -> `{sure}`", text=scalars.written(sure)) if sure else None,
        )


def _without_space(key: str, allowed: Sequence[str]) -> str | None:
    """`depth: 0.1` for the key `depth:0.1`, which YAML reads in `{depth:0.1}`; else None."""
    name, colon, text = key.partition(":")
    return f"{name}: {text}" if colon and text and name in allowed else None


def _elsewhere(key: str, error: ValidationError, root: JSONSchema, allowed: Sequence[str]) -> str:
    """What to do with a key that is no other key misspelt: where it belongs, or away with it."""
    value = cast("Mapping[str, Any]", error.instance)
    if "vars" in allowed and not error.absolute_path and re.match(r"[.]|x-", key):
        return "move it below `vars:`, whose keys have any name"
    if (below := _below(key, error.schema, root)) is not None:
        if below in value:
            moved = flow({key: value[key]})[1:-1]
            return f"move it below `{below}:`, beside the keys there: `{moved}`"
        return f"it belongs under `{below}`: `{flow({below: {key: value[key]}})[1:-1]}`"
    if (above := _above(key, error, root)) is not None:
        beside = error.absolute_path[len(above)]
        parent = f"`{above[-1]}:`" if above else "the top of the spec"
        return f"move it up to {parent}, beside `{beside}`: `{flow({key: value[key]})[1:-1]}`"
    if kinds := _kinds(error, root):
        return _of_another_kind(key, value, kinds)
    if allowed:
        return f"remove it; allowed here: {quote_list(allowed)}"
    return "remove it; no keys are allowed here"


def _above(key: str, error: ValidationError, root: JSONSchema) -> list[str] | None:
    """The path of the nearest mapping around this one that takes `key` with its value."""
    moved = cast("Mapping[str, Any]", error.instance)[key]
    path = [str(step) for step in error.absolute_path]
    part: Any = root
    nearest_key = None
    for depth, step in enumerate(path):
        known = property_schemas(part, None, root)
        if key in known and matches(known[key], moved, root):
            nearest_key = path[:depth]
        part = known.get(step, {})
    return nearest_key


def _kinds(error: ValidationError, root: JSONSchema) -> dict[str, list[str]]:
    """For a mapping whose allowed keys depend on `type`: each type -> its keys."""
    node: Any = root
    branches: list[Any] = []
    for step in error.absolute_schema_path:
        node = resolved(node, root)[step] if step != "$ref" else resolved(node, root)
        branches = node if step == "allOf" else branches
    keys_of: dict[str, list[str]] = {}
    for branch in branches:
        name = branch.get("if", {}).get("properties", {}).get("type", {}).get("const")
        if name is not None:
            keys_of[name] = [k for k in branch["then"].get("properties", {}) if k != "type"]
    return keys_of


def _of_another_kind(key: str, value: Mapping[str, Any], kinds: Mapping[str, list[str]]) -> str:
    kind = value["type"]
    quoted = quote_list(kinds[kind]) if kinds[kind] else "no further key"
    advice = f"`type: {kind}` takes {quoted}; remove `{key}`"
    others = [name for name, keys in kinds.items() if {*value} <= {*keys, "type"}]
    return f"{advice}, or write `type: {others[0]}`, which takes it" if others else advice


def _below(key: str, schema: Any, root: JSONSchema) -> str | None:
    """The key beside it whose mapping takes `key`: it was put one level too high."""
    for name, part in property_schemas(schema, {}, root).items():
        if key in property_schemas(part, {}, root):
            return name
    return None
