"""`stages`: trainers, solvers and options; and which stage starts from which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from qatspec.diag import Diagnostic, DiagnosticError, Note
from qatspec.diag.words import quote_list
from qatspec.registry import Registry
from qatspec.schema import check, with_defaults
from qatspec.source.pointer import join
from qatspec.spec.collect import Findings
from qatspec.spec.model import (
    STAGES,
    Component,
    ModuleQuant,
    Solver,
    Spec,
    Stage,
    StageName,
    Trainer,
)
from qatspec.spec.modules import module_quant
from qatspec.spec.qconfig import qconfig_rules

#: stage -> the stages that it can start from, the preferred one first
PREDECESSORS: Mapping[StageName, tuple[StageName, ...]] = {
    "float": (),
    "calibration": ("float",),
    "qat": ("calibration", "float"),
    "convert": ("qat", "calibration"),
    "compile": ("convert",),
}


def build_stage(
    name: StageName,
    raw: Mapping[str, Any],
    names: Registry,
    findings: Findings,
    top: ModuleQuant,
    march: str,
) -> Stage:
    """One stage of the spec, its defaults filled in (`raw` has the schema's)."""
    at = f"/stages/{name}"
    trainer = qconfig = quantize = None
    options: Mapping[str, Any] = {}
    if "trainer" in raw:
        with findings:
            trainer = _trainer(raw["trainer"], join(at, "trainer"))
    if "qconfig" in raw:
        with findings:
            qconfig = qconfig_rules(raw["qconfig"], join(at, "qconfig"), names)
    if "quantize" in raw:
        quantize = module_quant(raw["quantize"], join(at, "quantize"), names, findings, top)
    if name == "convert":
        options = {"opset": raw["opset"]}
    if name == "compile":
        with findings:
            options = _march_options(raw, at, names, march)
    return Stage(
        name=name,
        trainer=trainer,
        solver=Solver(**raw.get("solver", {}), at=join(at, "solver")),
        qconfig=qconfig,
        quantize=quantize,
        batch_size=raw.get("batch_size_per_gpu"),
        options=options,
        at=at,
    )


def predecessor(spec: Spec, stage: StageName) -> StageName | None:
    """The stage whose result `stage` starts from; None for float.

    Raises DiagnosticError QS402 where the spec has none, QS403 for an impossible pre_step.
    """
    possible = PREDECESSORS[stage]
    asked = spec.stages[stage].solver.pre_step
    if asked is not None:
        if asked in possible and asked in spec.stages:
            return asked
        usable = [s for s in possible if s in spec.stages]
        why = "is not in the spec" if asked in possible else f"does not come before {stage}"
        raise DiagnosticError(
            Diagnostic(
                code="QS403",
                message=f"`pre_step: {asked}` of {stage} {why}",
                help=f"one of: {', '.join(usable)}" if usable else "add an earlier stage",
                at=f"/stages/{stage}/solver/pre_step",
            )
        )
    found = next((s for s in possible if s in spec.stages), None)
    if found is None and possible:
        raise DiagnosticError(
            Diagnostic(
                code="QS402",
                message=f"{stage} has nothing to start from",
                help=f"add a stage that it can start from: {quote_list(possible)}"
                + (" (`convert: {}` is enough)" if possible == ("convert",) else ""),
                at=f"/stages/{stage}",
                key=True,
            )
        )
    return found


def check_stages(spec: Spec, names: Registry) -> list[Diagnostic]:
    """What must hold between stages: a start for each, a qconfig for each prepared module, and a
    calibration wherever scales are fixed (contracts 10)."""
    findings = Findings()
    for stage in spec.stages:
        with findings:
            predecessor(spec, cast("StageName", stage))
        if stage in ("calibration", "qat"):
            with findings:
                spec.quantization(stage)
    if "qat" in spec.stages and not findings.found and not _calibrated(spec):
        findings.add(_uncalibrated(spec, names))
    return findings.found


def _calibrated(spec: Spec) -> bool:
    return predecessor(spec, "qat") == "calibration"


def _uncalibrated(spec: Spec, names: Registry) -> list[Diagnostic]:
    modules: dict[tuple[str, str], list[str]] = {}
    for leaf in spec.quantization("qat"):
        for rule in leaf.qconfig.rules if leaf.qconfig else ():
            if rule.preset is not None and names.qconfig(rule.preset).needs_calibration:
                modules.setdefault((rule.preset, rule.at), []).append(leaf.path or "the model")
    there = "calibration" in spec.stages
    advice = "add `stages.calibration`, or use `qconfig: horizon_qat`"
    if there:
        advice = "start from it: remove `pre_step`, or use `qconfig: horizon_qat`"
    return [
        Diagnostic(
            code="QS401",
            message=f"`{preset}` keeps calibrated scales, but qat starts from no calibration",
            help=advice,
            at=at,
            notes=(Note(f"modules: {', '.join(found)}"),),
        )
        for (preset, at), found in modules.items()
    ]


def _trainer(raw: Mapping[str, Any], at: str) -> Trainer:
    lengths = [key for key in ("epochs", "steps") if key in raw]
    if len(lengths) != 1:
        raise DiagnosticError(
            Diagnostic(
                code="QS208",
                message="a trainer takes `epochs` or `steps`, not both"
                if lengths
                else "a trainer needs `epochs` or `steps`",
                help="remove one of the two" if lengths else "add `epochs: ...` or `steps: ...`",
                at=join(at, "steps") if lengths else at,
                key=True,
            )
        )
    plain = {k: v for k, v in raw.items() if k not in ("optimizer", "scheduler", "batch_norm")}
    frozen = raw.get("batch_norm", "running")
    return Trainer(
        **plain,
        optimizer=_component(raw, "optimizer", at),
        scheduler=_component(raw, "scheduler", at),
        batch_norm=frozen["freeze_from_epoch"] if isinstance(frozen, Mapping) else frozen,
        at=at,
    )


def _component(raw: Mapping[str, Any], key: str, at: str) -> Component | None:
    if key not in raw:
        return None
    params = {k: v for k, v in raw[key].items() if k != "type"}
    return Component(type=raw[key]["type"], params=params, at=join(at, key))


def _march_options(
    raw: Mapping[str, Any], at: str, names: Registry, march: str
) -> Mapping[str, Any]:
    if march not in names.names("march"):
        return raw  # the march itself has been reported
    schema = names.march(march).options
    if wrong := check(raw, schema, at):
        raise DiagnosticError(wrong)
    return cast("Mapping[str, Any]", with_defaults(schema, raw))


def ordered(raw: Mapping[str, Any]) -> list[StageName]:
    """The stages that a spec names, in the order they run."""
    return cast("list[StageName]", [name for name in STAGES if name in raw])
