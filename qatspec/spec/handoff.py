"""`convert: {handoff: NAME}`: what must hold for it before anything is trained."""

from __future__ import annotations

from qatspec.diag import Diagnostic
from qatspec.diag.codes import QS728
from qatspec.diag.words import suggest
from qatspec.registry import Registry
from qatspec.spec.model import InputSpec, Spec

_AT = "/stages/convert/handoff"


def check_handoff(spec: Spec, names: Registry) -> list[Diagnostic]:
    """QS728 where the march knows no such hand-off, or the model does not take one picture."""
    asked = spec.stages["convert"].options["handoff"]
    known = names.march(spec.march).handoffs
    if asked not in known:
        others = sorted(n for n in names.names("march") if asked in names.march(n).handoffs)
        way: str | None = (
            f"write `march: {others[0]}`, or delete `handoff`" if others else "delete `handoff`"
        )
        if known and not others:
            way = suggest(asked, sorted(known))
        return [
            QS728.diagnostic(
                f"march {spec.march} has no hand-off `{asked}`",
                help=way,
                at=_AT,
            )
        ]
    inputs = list(spec.inputs.values())
    if len(inputs) != 1 or not isinstance(inputs[0], InputSpec):
        return [
            QS728.diagnostic(
                "a hand-off is for models that take one picture, and this one takes "
                + (f"{len(inputs)} inputs" if len(inputs) != 1 else "a tensor"),
                help="delete `handoff`: the float files of such a model are to be made by hand",
                at=_AT,
            )
        ]
    return []
