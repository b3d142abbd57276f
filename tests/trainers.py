"""Parts of a trainer, with the defaults that the schema of the spec language states."""

from typing import Any, Literal

from qatspec.schema import spec_schema, with_defaults
from qatspec.spec import Component


def part(key: Literal["optimizer", "scheduler"], type: str, **params: Any) -> Component:  # noqa: A002
    """Return what a spec's `KEY: {type: TYPE, ...}` below `trainer` becomes."""
    schema = {"$ref": f"#/$defs/{key}", "$defs": spec_schema()["$defs"]}
    filled = with_defaults(schema, {"type": type, **params})
    del filled["type"]
    return Component(type=type, params=filled)
