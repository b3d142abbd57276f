"""The reference page of the spec language, from its schema.

python -m qatspec.schema.reference > schemas/README.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from qatspec.schema.load import VERSION, spec_schema

_INTRO = f"""\
# The spec language, version {VERSION}

<!-- Written from qatspec-{VERSION}.schema.json by `python -m qatspec.schema.reference`. -->

A spec is one YAML 1.2 mapping. `extends` merges other files below it, `${{vars.x}}` and
`${{env:NAME}}` stand for values, `--set a.b=value` replaces one from the command line, `!replace`
before a mapping or list stops merging. Every mapping is closed: an unknown key is an error. The
params of a model, a data set and a march are described by the plugin that registers it:
`qatspec schema` writes this schema with all of them, for your editor.

A bold key is required. A key marked \\* makes no step run again by itself: it changes no result, or
counts by the contents of what it names.
"""
_BOUNDS = {
    "minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<",
}  # fmt: skip


def reference(schema: Mapping[str, Any] | None = None) -> str:
    """The page, Markdown: a section for the spec and for each mapping below it."""
    schema = schema or spec_schema()
    defs: dict[str, Any] = schema["$defs"]
    sections = [_INTRO, *_section("The spec", schema, defs, 2)]
    for name in _order(schema):
        sections += _section(name, defs[name], defs, 2)
    return "\n".join(sections).rstrip() + "\n"


def _order(schema: Mapping[str, Any]) -> list[str]:
    """Definitions in the order that a reader comes upon them."""
    names: dict[str, None] = {}

    def visit(part: Any) -> None:
        if isinstance(part, Mapping):
            name = part.get("$ref", "").rpartition("/")[2]
            if name and name not in names:
                names[name] = None
                visit(schema["$defs"][name])
            for key, value in part.items():
                if key != "$defs":
                    visit(value)
        elif isinstance(part, list):
            for value in part:
                visit(value)

    visit(schema)
    return list(names)


def _section(
    name: str, part: Mapping[str, Any], defs: Mapping[str, Any], level: int
) -> Iterator[str]:
    yield f"{'#' * level} {_title(name)}\n"
    yield f"{part.get('description', '')}\n"
    if "properties" not in part:
        yield f"{_sentence(_value(part))}\n"
    for condition, branch in ((None, part), *_branches(part)):
        if not branch.get("properties"):
            continue
        if all(below is True for below in branch["properties"].values()):
            yield f"With {condition}: no further keys.\n"
            continue
        if condition:
            yield f"With {condition}:\n"
        yield "| key | value | default | |\n|---|---|---|---|"
        required = (*part.get("required", ()), *branch.get("required", ()))
        for key, below in branch["properties"].items():
            if below is True:
                continue
            target = defs.get(below.get("$ref", "").rpartition("/")[2], {})
            yield _row(key, {**below, **_described(below, target)}, key in required)
        yield ""
    for key, below in part.get("properties", {}).items():
        if below is not True and "properties" in below:
            yield from _section(key, below, defs, level + 1)


def _described(part: Mapping[str, Any], target: Mapping[str, Any]) -> dict[str, str]:
    """The description of a key, taken from the schema behind its `$ref` where it has none
    itself."""
    return {"description": part.get("description") or target.get("description", "")}


def _branches(part: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for branch in part.get("allOf", ()):
        conditions = branch.get("if", {}).get("properties", {})
        written = ", ".join(f"`{k}: {v['const']}`" for k, v in conditions.items() if "const" in v)
        yield written, branch.get("then", {})


def _row(key: str, part: Mapping[str, Any], required: bool) -> str:
    name = f"`{key}`" if key else '`""`'
    name = f"**{name}**" if required else name
    free = "\\*" if part.get("x-qatspec-affects") is False else ""
    default = f"`{written}`" if (written := default_of(part)) else ""
    description = part.get("description", "")
    return f"| {name}{free} | {_value(part)} | {default} | {_cell(description)} |"


def default_of(part: Mapping[str, Any]) -> str:
    """A key's default as JSON, "" where it has none."""
    return json.dumps(part["default"]) if "default" in part else ""


def _value(part: Mapping[str, Any]) -> str:
    return _cell(takes(part, _link))


def _link(definition: str) -> str:
    return f"[{_title(definition)}](#{_title(definition).lower().replace(' ', '-')})"


def takes(part: Mapping[str, Any], refer: Callable[[str], str] = str) -> str:
    """What a key takes, in words; refer: the words for a definition that a `$ref` names."""
    if "$ref" in part:
        return refer(part["$ref"].rpartition("/")[2])
    if "const" in part:
        return f"`{json.dumps(part['const'])}`"
    if "enum" in part:
        return ", ".join(f"`{choice}`" for choice in part["enum"])
    if "else" in part and "then" in part:
        return " or ".join(takes(part[branch], refer) for branch in ("then", "else"))
    if "anyOf" in part:
        return " or ".join(takes(choice, refer) for choice in part["anyOf"])
    types = part.get("type", [])
    types = [types] if isinstance(types, str) else types
    return " or ".join(_typed(t, part, refer) for t in types) or "any value"


def _typed(name: str, part: Mapping[str, Any], refer: Callable[[str], str]) -> str:
    if name == "array" and isinstance(part.get("items"), Mapping):
        return f"list of {takes(part['items'], refer)}"
    if name == "object" and isinstance(part.get("additionalProperties"), Mapping):
        return f"mapping to {takes(part['additionalProperties'], refer)}"
    bounds = ", ".join(f"{sign} {part[key]}" for key, sign in _BOUNDS.items() if key in part)
    if name in ("integer", "number") and bounds:
        return f"{name} {bounds}"
    return {"object": "mapping", "array": "list", "string": "text"}.get(name, name)


def _title(name: str) -> str:
    return name.replace("_", " ")


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _cell(words: str) -> str:
    return words.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    sys.stdout.write(reference())
