"""`compile`: the registered march's compiler, with its options checked."""

from __future__ import annotations

from typing import Any

import jsonschema

from qatspec.diag import Diagnostic, DiagnosticError
from qatspec.program import Artifact, Program
from qatspec.registry import registry
from qatspec.types import JSONSchema


def compile(program: Program, march: str, **options: Any) -> Artifact:  # noqa: A001 - the arrow's name
    """Compile `program` for the march called `march`.

    options: those of the march's own schema (bernoulli2 and bayes: opt, cores, verify;
    onnxruntime: opt); what is left out takes its default.

    Raises DiagnosticError: QS301 for an unknown march, QS803 for options, and what the march's
    compiler raises (QS801 for ops that it cannot run).
    """
    record = registry().march(march)
    return record.compile(program, check_options(march, record.options, options))


def check_options(march: str, schema: JSONSchema, options: dict[str, Any]) -> dict[str, Any]:
    """`options` with the defaults of `schema` filled in. Raises DiagnosticError QS803."""
    properties = schema.get("properties", {})
    filled = {name: p["default"] for name, p in properties.items() if "default" in p} | options
    errors = jsonschema.Draft202012Validator(schema).iter_errors(filled)
    found = [
        Diagnostic(
            code="QS803",
            message=f"compile options of {march}: {error.message}",
            help=f"it takes {', '.join(sorted(properties)) or 'no options'}",
        )
        for error in sorted(errors, key=lambda e: (list(map(str, e.path)), e.message))
    ]
    if found:
        raise DiagnosticError(found)
    return filled
