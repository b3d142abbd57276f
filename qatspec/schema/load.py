"""The committed schemas and tables, as parsed JSON."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Mapping
from functools import cache
from typing import Any, cast

from qatspec.language import VERSION, spec_schema
from qatspec.types import JSONSchema

__all__ = ["VERSION", "spec_schema", "summary_schema", "torch_symbols"]


@cache
def summary_schema() -> JSONSchema:
    """schemas/summary-1.schema.json, as parsed JSON; not to be changed."""
    text = importlib.resources.files("qatspec_schemas") / "summary-1.schema.json"
    return cast("dict[str, Any]", json.loads(text.read_text(encoding="utf-8")))


@cache
def torch_symbols() -> Mapping[str, Any]:
    """schemas/torch-symbols.json: the public names of torch by namespace
    (tests/bench/torch_symbols.py writes it); not to be changed."""
    text = importlib.resources.files("qatspec_schemas") / "torch-symbols.json"
    return cast("dict[str, Any]", json.loads(text.read_text(encoding="utf-8")))
