"""JSON schemas in few words: closed, every property described."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def by_content(schema: Schema) -> Schema:
    """A param that says where files are: what it leads to counts by its content, in the data set's
    fingerprint, and its own value changes nothing."""
    return {**schema, "x-qatspec-affects": False}


def judging(schema: Schema) -> Schema:
    """A param that changes what is made of the outputs, and thereby metrics, but no tensor."""
    return {**schema, "x-qatspec-affects": "evaluation"}


def closed(description: str, properties: Schema, *, required: tuple[str, ...] = ()) -> Schema:
    """An object that takes these properties and no others; `{}` where nothing is required."""
    schema = {
        "type": "object",
        "description": description,
        "additionalProperties": False,
        "properties": properties,
    }
    return {**schema, "required": list(required)} if required else {**schema, "default": {}}


def integer(description: str, default: int | None = None, *, least: int = 1) -> Schema:
    """A whole number of at least `least`; required where there is no default."""
    schema: Schema = {"type": "integer", "minimum": least, "description": description}
    return schema if default is None else {**schema, "default": default}


def number(
    description: str, default: float, *, least: float = 0.0, most: float | None = None
) -> Schema:
    """A number from `least` to `most`."""
    limit = {} if most is None else {"maximum": most}
    return {
        "type": "number", "minimum": least, **limit, "default": default, "description": description
    }  # fmt: skip


def number_range(description: str, default: list[float]) -> Schema:
    """[low, high], both above zero."""
    return _pair({"type": "number", "exclusiveMinimum": 0}, description, default)


def integer_range(description: str, default: list[int]) -> Schema:
    """[low, high], whole and at least one."""
    return _pair({"type": "integer", "minimum": 1}, description, default)


def _pair(item: Schema, description: str, default: list[Any]) -> Schema:
    return {
        "type": "array",
        "items": item,
        "minItems": 2,
        "maxItems": 2,
        "default": default,
        "description": description,
    }
