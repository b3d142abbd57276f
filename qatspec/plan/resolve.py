"""Spec to Plan: the steps, what each depends on, and the digest of exactly that."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from qatspec.diag import Diagnostic, DiagnosticError
from qatspec.files import open_file, why_unreadable
from qatspec.plan.digest import default_threads, digest, software
from qatspec.plan.model import Plan, PluginRef, Step
from qatspec.registry import Registry, registry as installed
from qatspec.schema import affecting, spec_schema, with_defaults
from qatspec.source.pointer import join
from qatspec.spec import Spec, predecessor, weights_file
from qatspec.spec.model import QConfigRules, StageName

#: Parts of the spec that each step depends on, besides its own stage.
_PARTS: Mapping[str, tuple[str, ...]] = {
    "float": ("/march", "/seed", "/model", "/data/train", "/data/val"),
    "calibration": ("/march", "/seed", "/model", "/data/calibration", "/data/val", "/quantize"),
    "qat": ("/march", "/seed", "/model", "/data/qat", "/data/val", "/quantize"),
    "convert": ("/name", "/march", "/model", "/data/val", "/quantize"),
    "compile": ("/name", "/march"),
}
_TRAINING = ("float", "calibration", "qat")
#: Ordered mappings of the spec language: the order of qconfig rules decides.
_ORDERED = ("object_type", "module_name_regex")


def resolve(
    spec: Spec,
    *,
    device: str = "cpu",
    threads: int | None = None,
    nproc: int = 1,
    registry: Registry | None = None,
) -> Plan:
    """The plan of a spec: its stages in order, each with the digest of all that its bytes rest on.

    device, threads, nproc: what training runs on, as far as bytes depend on it; threads: what
    `default_threads()` says unless given.
    Raises DiagnosticError where data is missing, PluginFault where a plugin's fingerprint raises.
    """
    names = registry or installed()
    with spec.document.located():
        values = _values(spec, names)
        machine = {"device": device, "threads": threads or default_threads(), "nproc": nproc}
        steps: list[Step] = []
        for name in spec.stages:
            steps.append(_step(spec, cast("StageName", name), values, machine, names, steps))
    whole = digest({"values": values, "software": software()})
    return Plan(spec=spec, digest=whole, steps=tuple(steps))


def _step(
    spec: Spec,
    name: StageName,
    values: Mapping[str, Any],
    machine: Mapping[str, Any],
    names: Registry,
    earlier: list[Step],
) -> Step:
    before = predecessor(spec, name)
    parts = (*_PARTS[name], f"/stages/{name}")
    if name == "convert" and before is not None:
        # the graph is prepared as in the stage it starts from, before its weights are loaded
        parts += (f"/stages/{before}/qconfig", f"/stages/{before}/quantize")
    keys: dict[str, Any] = {p: v for p, v in values.items() if _within(p, parts)}
    plugins = tuple(_plugins(spec, name, names))
    for ref in plugins:
        keys[f"plugin:{ref.entry_point}"] = f"{ref.dist}=={ref.version} {ref.source}"
    for role in _roles(name):
        keys[f"data:{role}"] = _fingerprint(spec, role, names)
    if (weights := weights_file(spec, spec.stages[name].solver)) is not None:
        keys["weights"] = _sha256(weights, spec.stages[name].solver.at)
    if name in _TRAINING:
        keys.update(machine)
    if before is not None:
        keys[f"input:{before}"] = next(s.digest for s in earlier if s.name == before)
    keys.update(software())
    return Step(
        name=name,
        inputs=(before,) if before else (),
        outputs=_outputs(name, spec.name),
        digest=digest(keys),
        keys=dict(sorted(keys.items())),
        plugins=plugins,
    )


def _values(spec: Spec, names: Registry) -> dict[str, Any]:
    """Pointer -> value for everything in the spec that can change bytes, defaults filled in."""
    found = _ordered_rules(
        affecting(spec_schema(), with_defaults(spec_schema(), spec.document.data)),
        spec.document.data,
    )
    components = {"/model": (spec.model, names.model(spec.model.type).params)}
    for role in spec.data.values():
        record = names.dataset(role.dataset.type)
        components[role.dataset.at] = (role.dataset, record.params)
    for at, (component, schema) in components.items():
        params = join(at, "params")
        found = {p: v for p, v in found.items() if not _within(p, (params,))}
        found.update(affecting(schema, component.params, at=params))
        found[join(at, "type")] = component.type  # an alias means the same thing
    for name in ("calibration", "qat"):
        if name not in spec.document.data["data"]:
            found.update(_as_train(name, found))
    if "compile" in spec.stages:
        at = "/stages/compile"
        found = {p: v for p, v in found.items() if not _within(p, (at,))}
        options = spec.stages["compile"].options
        found.update(affecting(names.march(spec.march).options, options, at=at))
    return found


def _as_train(role: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Without a role of its own, calibration or qat depends on the train role."""
    train = "/data/train"
    return {
        f"/data/{role}" + p.removeprefix(train): v for p, v in found.items() if _within(p, (train,))
    }


def _ordered_rules(found: dict[str, Any], data: Any) -> dict[str, Any]:
    """The order of rules written as mappings, which `affecting` takes for unordered."""

    def visit(value: Any, at: str) -> None:
        if not isinstance(value, Mapping):
            return
        for key, child in value.items():
            pointer = join(at, key)
            if key in _ORDERED and isinstance(child, Mapping):
                found[f"{pointer}#order"] = list(child)
            visit(child, pointer)

    visit(data.get("quantize"), "/quantize")
    visit(data.get("stages"), "/stages")
    return found


def _within(pointer: str, parts: Iterable[str]) -> bool:
    return any(pointer == part or pointer.startswith((part + "/", part + "#")) for part in parts)


def _roles(name: StageName) -> tuple[str, ...]:
    return {
        "float": ("train", "val"),
        "calibration": ("calibration", "val"),
        "qat": ("qat", "val"),
        "convert": ("val",),
    }.get(name, ())


def _fingerprint(spec: Spec, role: str, names: Registry) -> str:
    dataset = spec.data[role].dataset
    record = names.dataset(dataset.type)
    base = Path(spec.document.path).parent
    try:
        with names.blame(record, f"fingerprint of data set `{dataset.type}`"):
            return str(record.fingerprint(dataset.params, base))
    except DiagnosticError as error:
        raise DiagnosticError(
            tuple(_placed(d, dataset.at) for d in error.diagnostics), error.texts
        ) from error


def _sha256(weights: Path, at: str) -> str:
    """Of a file's bytes. Raises DiagnosticError QS905 where it is not there."""
    found = hashlib.sha256()
    try:
        with open_file(weights) as stream:
            while block := stream.read(1 << 20):
                found.update(block)
    except OSError as error:
        raise DiagnosticError(
            Diagnostic(
                code="QS905",
                message=f"cannot read the weights `{weights}`: {why_unreadable(error)}",
                help="check `weights`, which is relative to the spec",
                at=f"{at}/weights",
            )
        ) from None
    return found.hexdigest()


def _placed(diagnostic: Diagnostic, at: str) -> Diagnostic:
    """A data set's diagnostic without a place stands at the role that names the data."""
    if diagnostic.at is not None or diagnostic.span is not None:
        return diagnostic
    return replace(diagnostic, at=at)


def _plugins(spec: Spec, name: StageName, names: Registry) -> Iterable[PluginRef]:
    """Every plugin that takes part in a step, by what it provides."""
    used: list[tuple[str, str]] = [("march", spec.march)]
    if name != "compile":
        used.append(("model", spec.model.type))
        used += [("dataset", spec.data[role].dataset.type) for role in _roles(name)]
    if name in ("calibration", "qat", "convert"):
        for leaf in spec.quantization(name):
            used += _rules(leaf.qconfig)
        used += [("observer", o) for o in names.names("observer")]
        used += [("fuse_pattern", p) for p in names.names("fuse_pattern")]
        used += [("quant_handler", h) for h in names.names("quant_handler")]
        used += [("prepare_config", p) for p in names.names("prepare_config")]
    for kind, item in sorted(set(used)):
        provider = names.provider(kind, item)
        yield PluginRef(
            kind=kind,
            name=item,
            entry_point=provider.entry_point,
            dist=provider.dist,
            version=provider.version,
            source=provider.source_sha256,
        )


def _rules(rules: QConfigRules | None) -> list[tuple[str, str]]:
    found = [rule.preset for rule in rules.rules if rule.preset] if rules else []
    return [("qconfig", preset) for preset in found]


def _outputs(name: StageName, run: str) -> tuple[str, ...]:
    """Files of a finished step, relative to the work directory (contracts 21)."""
    files: tuple[str, ...]
    match name:
        case "convert":
            files = (f"{run}-qat.onnx", f"{run}-converted.onnx", f"{run}.program")
        case "compile":
            files = (f"{run}.bin", f"{run}.perf.json", f"{run}.perf.html")
        case _:
            files = (f"{name}-checkpoint-best.pth.tar", f"{name}-checkpoint-last.pth.tar")
    return tuple(f"{name}/{file}" for file in files)
