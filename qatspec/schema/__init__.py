"""JSON Schema 2020-12: the spec language's own and those of registered params."""

from qatspec.schema.check import check as check, example as example
from qatspec.schema.load import (
    VERSION as VERSION,
    spec_schema as spec_schema,
    torch_symbols as torch_symbols,
)
from qatspec.schema.merged import merged_schema as merged_schema
from qatspec.schema.walk import (
    Effect as Effect,
    affecting as affecting,
    with_defaults as with_defaults,
)
