"""`quantize`: which modules are prepared, and how; a stage's own put over the top one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from qatspec.diag import Diagnostic, Note
from qatspec.diag.codes import QS206, QS404
from qatspec.registry import Registry
from qatspec.source.pointer import join
from qatspec.source.write import flow
from qatspec.spec.collect import Findings
from qatspec.spec.model import ModuleQuant, StageName
from qatspec.spec.prepare import prepare_config
from qatspec.spec.qconfig import qconfig_rules
from qatspec.types import PrepareConfig

if TYPE_CHECKING:
    from qatspec.spec.model import Spec

_SIBLINGS = ("qconfig", "prepare", "quantize_input", "quantize_output")


def module_quant(
    raw: Mapping[str, Any],
    at: str,
    names: Registry,
    findings: Findings,
    below: ModuleQuant | None = None,
    path: str = "",
) -> ModuleQuant:
    """The mapping `raw`, put over `below`: what it does not mention stays as it was."""
    below = below or ModuleQuant(path=path, at=at)
    beside = [key for key in _SIBLINGS if key in raw]
    if beside and ("modules" in raw or below.modules):
        findings.add([_exclusive(key, raw, at, below) for key in beside])
        beside = []
    if "modules" in raw:
        children = dict(below.modules)
        for name, child in raw["modules"].items():
            pointer = join(at, "modules", name)
            absolute = f"{path}.{name}" if path else name
            children[name] = module_quant(
                child, pointer, names, findings, children.get(name), absolute
            )
        return ModuleQuant(path=path, modules=children, at=at)
    changed: dict[str, Any] = {}
    for key in beside:
        with findings:
            changed[key] = _field(key, raw[key], join(at, key), names)
    return dataclasses.replace(below, **changed, at=at)


def _field(key: str, value: Any, at: str, names: Registry) -> Any:
    if key == "qconfig":
        return qconfig_rules(value, at, names)
    if key == "prepare":
        return prepare_config(value, at, names)
    return value


def _exclusive(key: str, raw: Mapping[str, Any], at: str, below: ModuleQuant) -> Diagnostic:
    modules = join(at, "modules") if "modules" in raw else join(below.at, "modules")
    children = raw.get("modules") or {path: {} for path in below.modules}
    name, child = next(iter(children.items()))
    moved = flow({name: {**(child or {}), key: raw[key]}})[1:-1]
    return QS206.diagnostic(
        f"`{key}` cannot stand beside `modules`",
        help=f"delete it here, and write it into the modules that it is meant for: `{moved}`; or "
        "delete `modules`, to prepare the whole model",
        at=join(at, key),
        key=True,
        notes=(Note("`modules` is here", at=modules),),
    )


def quantization(spec: Spec, stage: str) -> tuple[ModuleQuant, ...]:
    """The prepared modules of `stage`: leaves with absolute path, qconfig and prepare set.

    convert and compile see what the stage that they start from sees; float prepares nothing.
    Raises DiagnosticError QS404 for a module that no qconfig reaches.
    """
    source = source_stage(spec, stage)
    if source is None:
        return ()
    settings = spec.stages[source]
    findings = Findings()
    leaves = []
    for leaf in (settings.quantize or spec.quantize).leaves():
        with findings:
            rules = leaf.qconfig or settings.qconfig or _refuse_without_qconfig(spec, leaf, source)
            prepare = leaf.prepare or PrepareConfig()
            leaves.append(dataclasses.replace(leaf, qconfig=rules, prepare=prepare))
    findings.stop()
    return tuple(leaves)


def source_stage(spec: Spec, stage: str) -> StageName | None:
    """The stage whose quantization `stage` works with; None for float."""
    if stage in ("calibration", "qat"):
        return spec.stages[stage].name if stage in spec.stages else None
    if stage == "float":
        return None
    asked = spec.stages["convert"].solver.pre_step if "convert" in spec.stages else None
    if asked in ("calibration", "qat"):
        return asked
    return next((s for s in ("qat", "calibration") if s in spec.stages), None)


def _refuse_without_qconfig(spec: Spec, leaf: ModuleQuant, stage: str) -> NoReturn:
    what = f"module `{leaf.path}`" if leaf.path else "the model"
    preset = "horizon_calibration"
    if stage == "qat":
        preset = "horizon_calibrated" if "calibration" in spec.stages else "horizon_qat"
    raise QS404.error(
        f"stage {stage} prepares {what}, but no qconfig reaches it",
        help=f"add `qconfig: {preset}` to `{stage}:`, beside its `trainer`",
        at=f"/stages/{stage}",
        key=True,
    )
