"""JSON Schema 2020-12: the spec language's own and those of registered params."""

from qatspec.schema.check import check, example
from qatspec.schema.load import VERSION, spec_schema, torch_symbols
from qatspec.schema.merged import merged_schema
from qatspec.schema.walk import Effect, affecting, with_defaults

__all__ = [
    "VERSION",
    "Effect",
    "affecting",
    "check",
    "example",
    "merged_schema",
    "spec_schema",
    "torch_symbols",
    "with_defaults",
]
