"""Check that the opset of a spec supports the dtypes of its rules."""

from __future__ import annotations

from collections.abc import Collection

from qatspec.diag import Diagnostic
from qatspec.diag.codes import QS720
from qatspec.diag.words import quote_list
from qatspec.spec.model import Rule, Spec, StageName
from qatspec.types import QSpec

#: ONNX has QuantizeLinear and DequantizeLinear of 8 bits in opset 17 (13), of int16 and int4 in 21.
OPSET, WIDE_OPSET = 17, 21


def needed_opset(dtypes: Collection[str]) -> int:
    """The least opset that holds tensors of all these dtypes."""
    return OPSET if set(dtypes) <= {"qint8", "quint8"} else WIDE_OPSET


def check_opset(spec: Spec, source: StageName) -> Diagnostic | None:
    """QS720 where the opset of `stages.convert` is too low for rules of the stage `source`.

    An error where every rule of a module quantizes activations so, else a warning: whether a rule
    matches anything is not known without the model."""
    written = spec.stages["convert"].options["opset"]
    if written is None:  # the least that holds the dtypes
        return None
    leaves = [leaf for leaf in spec.quantization(source) if leaf.qconfig is not None]
    rules = [rule for leaf in leaves for rule in leaf.qconfig.rules]  # type: ignore[union-attr]
    wide = {q.dtype for rule in rules for q in _qspecs(rule) if needed_opset({q.dtype}) > written}
    if not wide:
        return None
    certain = any(
        leaf.quantize_input and all(_is_wide(rule, written) for rule in leaf.qconfig.rules)  # type: ignore[union-attr]
        for leaf in leaves
    )
    return QS720.diagnostic(
        f"opset {written} cannot hold {quote_list(sorted(wide))}, which a rule of stage "
        f"{source} asks for: it needs {WIDE_OPSET}",
        severity="error" if certain else "warning",
        help=f"delete `opset` (it is then as high as needed), or write `opset: {WIDE_OPSET}`",
        at="/stages/convert/opset",
    )


def _qspecs(rule: Rule) -> list[QSpec]:
    config = rule.value
    both = (config.activation, config.weight) if config else ()
    return [qspec for qspec in both if qspec is not None]


def _is_wide(rule: Rule, opset: int) -> bool:
    activation = rule.value.activation if rule.value else None
    return activation is not None and needed_opset({activation.dtype}) > opset
