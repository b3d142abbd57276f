"""`stages`: trainers, solvers and options; and which stage starts from which."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from qatspec.diag import Diagnostic, DiagnosticError, Note
from qatspec.diag.codes import QS208, QS310, QS401, QS402, QS403, QS405
from qatspec.registry import Registry
from qatspec.schema import check, with_defaults
from qatspec.source.pointer import join
from qatspec.spec.batch_sizes import batch_size
from qatspec.spec.collect import Findings
from qatspec.spec.handoff import check_handoff
from qatspec.spec.model import (
    STAGES,
    Component,
    EarlyStop,
    ModuleQuant,
    Rule,
    Solver,
    Spec,
    Stage,
    StageName,
    Trainer,
)
from qatspec.spec.modules import module_quant
from qatspec.spec.opset import check_opset
from qatspec.spec.presets import relative
from qatspec.spec.qconfig import qconfig_rules
from qatspec.spec.regex import check_regex
from qatspec.spec.runtime_input import check_runtime_input
from qatspec.spec.unsigned import check_unsigned

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
    solver = Solver(at=join(at, "solver"))
    if "solver" in raw:
        with findings:
            solver = _solver(raw["solver"], solver.at)
    if "trainer" in raw:
        with findings:
            trainer = _trainer(raw["trainer"], join(at, "trainer"))
    if "qconfig" in raw:
        with findings:
            qconfig = qconfig_rules(raw["qconfig"], join(at, "qconfig"), names)
    size = raw.get("batch_size_per_gpu")
    if "quantize" in raw:
        quantize = module_quant(raw["quantize"], join(at, "quantize"), names, findings, top)
    if name == "convert":
        options = {key: raw[key] for key in ("opset", "qdq")}
        # without a default: a key that is absent leaves the digests of a spec as they were
        options |= {key: raw[key] for key in ("batch", "float16", "handoff") if key in raw}
    if name == "compile":
        with findings:
            options = _march_options(raw, at, names, march)
    return Stage(
        name=name,
        trainer=trainer,
        solver=solver,
        qconfig=qconfig,
        quantize=quantize,
        batch_size=None if size is None else batch_size(size),
        options=options,
        seed=raw.get("seed"),
        candidates=raw.get("candidates", {}),
        init_from=tuple(map(checkpoint_name, raw.get("init_from", ()))),
        seeds=tuple(raw.get("seeds", ())),
        at=at,
    )


def checkpoint_name(said: str | Mapping[str, int]) -> str:
    """The name of a checkpoint in its file's: best, last, or epoch-0008 for {epoch: 8}."""
    return said if isinstance(said, str) else f"epoch-{said['epoch']:04d}"


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
        raise QS403.error(
            f"`pre_step: {asked}` of {stage} {why}",
            help=_other_start(usable),
            at=f"/stages/{stage}/solver/pre_step",
        )
    nearest_stage = next((s for s in possible if s in spec.stages), None)
    if nearest_stage is None and possible:
        raise QS402.error(
            f"{stage} has nothing to start from",
            help=f"add below `stages:` what it starts from: {_starts(spec, stage)}",
            at=f"/stages/{stage}",
            key=True,
        )
    return nearest_stage


#: The shortest form of a stage, for who has to add it.
_SHORTEST: Mapping[StageName, str] = {
    "float": "float: {trainer: {epochs: 10, optimizer: {type: sgd, lr: 0.01}}}",
    "calibration": "calibration: {trainer: {steps: 20}, qconfig: horizon_calibration}",
    "convert": "convert: {}",
}


def _starts(spec: Spec, stage: StageName) -> str:
    """The fewest stages to add so that `stage` has a start, in their short forms."""
    added: list[str] = []
    while (possible := PREDECESSORS[stage]) and not any(s in spec.stages for s in possible):
        stage = possible[-1]
        added.insert(0, f"`{_SHORTEST[stage]}`")
    return " and ".join(added)


def _other_start(usable: Sequence[StageName]) -> str:
    if not usable:
        return "add an earlier stage"
    return f"delete `pre_step` (it then starts from {usable[0]}), or write `pre_step: {usable[0]}`"


def check_stages(spec: Spec, names: Registry) -> list[Diagnostic]:
    """What must hold between stages: a start for each, a qconfig for each prepared module, and a
    calibration wherever scales are fixed (rule: scales before training)."""
    findings = Findings()
    if (last := spec.stages.get("compile")) is not None:
        findings.add(check_runtime_input(last.options, spec.inputs, last.at))
    if (convert := spec.stages.get("convert")) is not None and "handoff" in convert.options:
        findings.add(check_handoff(spec, names))
    for stage in spec.stages:
        with findings:
            before = predecessor(spec, cast("StageName", stage))
            if before is not None:
                _demand_kept(spec, cast("StageName", stage), before)
        if stage in ("calibration", "qat"):
            with findings:
                spec.quantization(stage)
    if "qat" in spec.stages and not findings.diagnostics and not _calibrated(spec):
        findings.add(_uncalibrated(spec, names))
    if not findings.diagnostics:
        findings.add(check_unsigned(spec, names))
    if "convert" in spec.stages and not findings.diagnostics:
        opset = check_opset(spec, cast("StageName", predecessor(spec, "convert")))
        findings.add([opset] if opset else [])
    return findings.diagnostics


def _demand_kept(spec: Spec, name: StageName, before: StageName) -> None:
    """Raise DiagnosticError QS405 where a stage starts from an epoch that `before` does not
    keep."""
    kind, _, number = spec.stages[name].solver.pre_step_checkpoint.partition("-")
    if kind != "epoch":
        return
    at = f"/stages/{name}/solver/pre_step_checkpoint"
    trainer, epoch = spec.stages[before].trainer or Trainer(), int(number)
    if before == "calibration" or trainer.epochs is None:
        raise QS405.error(
            f"stage {before} has no epochs to start from",
            help="write `best` or `last`",
            at=at,
        )
    every = trainer.validate_epochs
    if epoch > trainer.epochs or (epoch % every and epoch != trainer.epochs):
        kept = f"{every}, {2 * every}, ..." if every > 1 else "1"
        raise QS405.error(
            f"stage {before} keeps no checkpoint of epoch {epoch}",
            help=f"choose one of {kept} to {trainer.epochs}"
            + (f" (it validates after every {every} epochs)" if every > 1 else ""),
            at=at,
        )


def _calibrated(spec: Spec) -> bool:
    return predecessor(spec, "qat") == "calibration"


def _uncalibrated(spec: Spec, names: Registry) -> list[Diagnostic]:
    modules: dict[str, tuple[Rule, list[str]]] = {}
    for leaf in spec.quantization("qat"):
        for rule in leaf.qconfig.rules if leaf.qconfig else ():
            if _keeps_scales(rule, names):
                modules.setdefault(rule.at, (rule, []))[1].append(leaf.path or "the model")
    diagnostics = []
    for rule, of_rule in modules.values():
        what, moving, measuring, at = rule.preset, "", "", rule.at
        if rule.preset is None:
            what, moving, at = "fake_quant: fixed", "fake_quant: moving", _of_fixed(rule, spec)
        else:
            moving = f"qconfig: {relative(rule.preset, 'qat', names) or 'horizon_qat'}"
            measuring = relative(rule.preset, "calibration", names) or ""
        added = _SHORTEST["calibration"]
        if measuring:
            added = added.replace("horizon_calibration", measuring)
        advice = f"write `{moving}`, which needs none; or add below `stages:` `{added}`"
        if "calibration" in spec.stages:
            advice = f"delete `pre_step`, so that it starts from it; or write `{moving}`"
        diagnostics.append(
            QS401.diagnostic(
                f"`{what}` keeps calibrated scales, but qat starts from no calibration",
                help=advice,
                at=at,
                notes=(Note(f"modules: {', '.join(of_rule)}"),),
            )
        )
    return diagnostics


def _keeps_scales(rule: Rule, names: Registry) -> bool:
    """Whether a rule takes scales of activations that nothing in qat measures, and that it does not
    give as a number."""
    if rule.preset is not None and names.qconfig(rule.preset).needs_calibration:
        return True
    activation = rule.value.activation if rule.value is not None else None
    return activation is not None and activation.fake_quant == "fixed" and activation.scale is None


def _of_fixed(rule: Rule, spec: Spec) -> str:
    """The pointer of the key that fixes the scales of a written rule."""
    at = join(rule.at, "activation", "fake_quant")
    return at if at in spec.document.spans else rule.at


def weights_file(spec: Spec, solver: Solver) -> Path | None:
    """The file of weights that a stage begins with, if the spec names one."""
    if solver.weights is None:
        return None
    return Path(spec.document.path).parent / Path(solver.weights).expanduser()


def _solver(raw: Mapping[str, Any], at: str) -> Solver:
    """Raises DiagnosticError QS310, QS311 for patterns of `fresh` and of a key map."""
    if "pre_step_checkpoint" in raw:
        raw = {**raw, "pre_step_checkpoint": checkpoint_name(raw["pre_step_checkpoint"])}
    fresh = tuple(raw.get("fresh") or ())
    for index, pattern in enumerate(fresh):
        check_regex(pattern, join(at, "fresh", index))
    key_map = raw.get("key_map")
    if not isinstance(key_map, Sequence) or isinstance(key_map, str):
        return Solver(**{**raw, "fresh": fresh}, at=at)
    for index, (pattern, replacement) in enumerate(key_map):
        pointer = join(at, "key_map", index)
        check_regex(pattern, pointer)
        try:
            re.sub(pattern, replacement or "", "")
        except (re.error, IndexError) as error:
            raise QS310.error(
                f"`{replacement}` is not a valid replacement for `{pattern}`: {error}",
                help=r"groups are `\1`, `\2`, ... in the order of the pattern's brackets",
                at=pointer,
            ) from None
    pairs = tuple((pattern, replacement) for pattern, replacement in key_map)
    return Solver(**{**raw, "key_map": pairs, "fresh": fresh}, at=at)


def _trainer(raw: Mapping[str, Any], at: str) -> Trainer:
    lengths = [key for key in ("epochs", "steps") if key in raw]
    if len(lengths) != 1:
        raise DiagnosticError(_two_lengths(raw, at) if lengths else _no_length(at))
    settings = dict(raw)
    for key in ("optimizer", "scheduler"):
        if key in raw:
            settings[key] = _component(raw[key], join(at, key))
    if "optimizer" in raw:  # the trainer of calibration has none
        for index, group in enumerate(raw["optimizer"]["groups"]):
            check_regex(group["pattern"], join(at, "optimizer", "groups", index, "pattern"))
        for index, pattern in enumerate(raw["freeze"]):
            check_regex(pattern, join(at, "freeze", index))
        settings["freeze"] = tuple(raw["freeze"])
    if isinstance(clipping := raw.get("grad_clip"), Mapping):
        settings["grad_clip"], settings["clip_value"] = clipping["norm"], clipping["value"]
    if isinstance(batch_norm := raw.get("batch_norm"), Mapping):
        settings["batch_norm"] = batch_norm["before"]
        settings["freeze_from_epoch"] = batch_norm["freeze_from_epoch"]
    if raw.get("early_stop") is not None:
        settings["early_stop"] = EarlyStop(**raw["early_stop"])
    return Trainer(**settings, at=at)


def _two_lengths(raw: Mapping[str, Any], at: str) -> Diagnostic:
    first, second = f"`epochs: {raw['epochs']}`", f"`steps: {raw['steps']}`"
    return QS208.diagnostic(
        "a trainer is as long as `epochs` or as `steps` says; it has both",
        help=f"delete one of the two lines: {first} (passes over the data) or {second} (batches)",
        at=join(at, "steps"),
        key=True,
        notes=(Note("the other one", at=join(at, "epochs")),),
    )


def _no_length(at: str) -> Diagnostic:
    return QS208.diagnostic(
        "a trainer needs `epochs` or `steps`",
        help="add `epochs: 10` (passes over the data) or `steps: 1000` (batches)",
        at=at,
        key=True,
    )


def _component(raw: Mapping[str, Any], at: str) -> Component:
    params = {k: v for k, v in raw.items() if k != "type"}
    return Component(type=raw["type"], params=params, at=at)


def _march_options(
    raw: Mapping[str, Any], at: str, names: Registry, march: str
) -> Mapping[str, Any]:
    if march not in names.names("march"):
        return raw  # the march itself has been reported
    schema = names.march(march).options
    if wrong := check(raw, schema, at):
        words = (
            f"the march is `{march}`, which has keys of its own here; with `--set march={march}`, "
            "`--set 'stages.compile={}'` leaves out the settings of another march"
        )
        note = Note(words, at="/march")
        raise DiagnosticError(replace(d, notes=(*d.notes, note)) for d in wrong)
    return cast("Mapping[str, Any]", with_defaults(schema, raw))


def ordered(raw: Mapping[str, Any]) -> list[StageName]:
    """The stages that a spec names, in the order they run."""
    return cast("list[StageName]", [name for name in STAGES if name in raw])
