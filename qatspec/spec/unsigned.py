"""Check that the march has the unsigned activations that rules ask for."""

from __future__ import annotations

from collections.abc import Iterator

from qatspec.diag import Diagnostic, DiagnosticError
from qatspec.diag.codes import QS807, QS808
from qatspec.registry import Registry
from qatspec.source.pointer import join
from qatspec.spec.model import Spec


def check_unsigned(spec: Spec, names: Registry) -> list[Diagnostic]:
    """QS807 for each rule that gives activations `quint8` on a march whose ops take none, QS808
    where the QAT ONNX of such rules is to be int8."""
    rules = dict(_rules(spec))
    convert = spec.stages.get("convert")
    if rules and convert is not None and convert.options["qdq"] == "int8":
        return list(unsigned_in_int8("/stages/convert/qdq").diagnostics)
    ops = names.march(spec.march).capabilities.ops
    if ops is None or any("uint8" in op.dtypes for op in ops.values()):
        return []
    return [
        QS807.diagnostic(
            f"march `{spec.march}` has no unsigned activations",
            help=f"write `{signed}`, or use `march: onnxruntime`",
            at=at,
        )
        for at, signed in rules.items()
    ]


def unsigned_in_int8(at: str | None = None) -> DiagnosticError:
    """QS808. at: the place in the spec."""
    return QS808.error(
        "a QAT ONNX of int8 cannot hold `quint8`",
        help="write `qdq: uint8`, or give the activations `dtype: qint8`",
        at=at,
    )


def _rules(spec: Spec) -> Iterator[tuple[str, str]]:
    """What asks for quint8, the dtype or the preset's name: its pointer, and what to write there
    for signed activations."""
    for stage in ("calibration", "qat"):
        for leaf in spec.quantization(stage) if stage in spec.stages else ():
            for rule in leaf.qconfig.rules if leaf.qconfig else ():
                activation = rule.value.activation if rule.value else None
                if activation is not None and activation.dtype == "quint8":
                    if rule.preset:
                        signed = "{activation: {dtype: qint8}}"
                        is_only_rule = leaf.qconfig is not None and rule.at == leaf.qconfig.at
                        yield rule.at, f'{{"": {signed}}}' if is_only_rule else signed
                    else:
                        yield join(rule.at, "activation", "dtype"), "qint8"
