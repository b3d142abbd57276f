"""What to do about code and ops that cannot become integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qatspec.diag import Diagnostic
from qatspec.spec.symbols import symbol
from qatspec.types import QuantHandler

_IN_FLOAT = (
    "move it, with what follows it, behind the outputs: what `loss` and `predict` call runs in "
    "float and is not converted"
)
_ON_HOST = (
    "move it behind the outputs (into `predict`), or list only the modules before it under "
    "`quantize: modules`: what follows them runs on the host in float"
)


def without_integers(handler: QuantHandler | None) -> str:
    """What to do about an op that has no integers.

    handler: of the op, None where there is none; what runs on the host needs a float ONNX form.
    """
    on_host = handler is not None and handler.to_onnx is not None
    return f"replace it, or {_ON_HOST if on_host else _IN_FLOAT}"


def untraceable(instead: str, owner: type | None) -> str:
    """What to do about code that cannot be traced.

    instead  how to write it.
    owner    the class of the module whose forward has it; None for that of the prepared module,
             which cannot be kept out of the graph.
    """
    kept = "put it into a function and name that in `prepare: {wrap: [...]}`"
    if owner is not None:
        key = f"prepare: {{non_traceable_module_class: [{symbol(owner)}]}}"
        kept = f"keep the module in float, `{key}`"
    return f"{instead}, or move the step into `predict`; a spec that converts nothing may {kept}"


def in_evaluation_alone(places: Sequence[Diagnostic]) -> list[Diagnostic]:
    """Places that cannot be traced and run in evaluation alone, with what to do about them."""
    advice = (
        "it runs in evaluation alone: put this step and what follows it into a method or function "
        "that training does not call, which then runs in float behind the quantized network, as "
        "its post-process; or move it into `predict`"
    )
    return [replace(d, help=advice) for d in places]
