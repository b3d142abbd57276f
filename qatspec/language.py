"""The committed schema of the spec language, and the defaults that it states."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Mapping
from functools import cache
from typing import Any, cast

VERSION = 1


@cache
def spec_schema() -> Mapping[str, Any]:
    """Return schemas/qatspec-1.schema.json as parsed JSON. Callers must not change it."""
    text = importlib.resources.files("qatspec_schemas") / f"qatspec-{VERSION}.schema.json"
    return cast("dict[str, Any]", json.loads(text.read_text(encoding="utf-8")))


def default(definition: str, *keys: str) -> Any:
    """Return the default that the schema states for a key of `$defs/definition`.

    keys  the key, or a path of keys: ("weight", "ch_axis") is the key `ch_axis` of the mapping
          `weight`. A number is an int where JSON writes it so; lists and mappings are shared, so
          callers must not change them.

    Raises KeyError for a key without a default.
    """
    part: Any = spec_schema()["$defs"][definition]
    for key in keys:
        part = part["properties"][key]
    return part["default"]
