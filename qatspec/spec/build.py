"""Document to Spec: the shape, then names and params, then what must hold between stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from qatspec.diag import Diagnostic, DiagnosticError
from qatspec.diag.codes import QS006, QS202
from qatspec.registry import Registry, registry as installed
from qatspec.schema import check, example, spec_schema, with_defaults
from qatspec.source import Document, load_document
from qatspec.source.pointer import join, split
from qatspec.spec.batch_sizes import batch_size, refused, with_batch_sizes
from qatspec.spec.candidates import with_candidates
from qatspec.spec.collect import Findings
from qatspec.spec.inputs import (
    check_inputs,
    given_to_data,
    read_inputs,
    taken_from_input,
    warn_of_inputs,
)
from qatspec.spec.model import Component, DataRole, GivenInput, Spec, Stage
from qatspec.spec.modules import module_quant
from qatspec.spec.qconfig import repeated_rules
from qatspec.spec.stages import build_stage, check_stages, ordered
from qatspec.types import JSONSchema


def load(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    allow_code: bool = False,
    smoke: bool = False,
    allow_unset: bool = False,
    registry: Registry | None = None,
) -> Spec:
    """Read a spec and check everything that needs no torch.

    path        the YAML file.
    overrides   values to set, as `--set` takes them: "vars.fast=1".
    allow_code  load the Python files that the spec names under `plugins`.
    smoke       merge the spec's `smoke` over the rest.
    allow_unset accept variables of the environment that are not set: each has its name as its
                value. Such a spec can be checked and not run.
    registry    where names are looked up; None: the installed plugins.

    Returns the Spec, with the defaults of absent keys. Raises DiagnosticError with every finding of
    the first phase that has any, with places.
    """
    document = load_document(path, overrides, smoke=smoke, allow_unset=allow_unset)
    with document.located():
        return build(document, registry or installed(), allow_code=allow_code)


def build(document: Document, names: Registry, *, allow_code: bool = False) -> Spec:
    """The Spec that a document means. Raises DiagnosticError with pointers, phase by phase."""
    if wrong := check(document.data, spec_schema()):
        raise DiagnosticError(wrong)
    raw = with_defaults(spec_schema(), document.data)
    inputs = read_inputs(raw["model"])
    _file_plugins(document, raw["plugins"], names, allow_code)
    spec = _build(document, raw, inputs, names)
    return with_candidates(spec, partial(_build_candidate, names=names))


def _build_candidate(document: Document, names: Registry) -> Spec:
    """The Spec of a candidate, whose plugins are loaded already. Raises DiagnosticError."""
    if wrong := check(document.data, spec_schema()):
        raise DiagnosticError(wrong)
    raw = with_defaults(spec_schema(), document.data)
    return _build(document, raw, read_inputs(raw["model"]), names)


def _build(
    document: Document, raw: Mapping[str, Any], inputs: Mapping[str, GivenInput], names: Registry
) -> Spec:
    findings = Findings()
    with findings:
        names.march(raw["march"], "/march")
    model = _component("model", raw["model"], "/model", names, findings)
    data = _data(raw["data"], given_to_data(raw["model"]), names, findings)
    # the document's own mapping: defaults filled in here would hide what a stage inherits
    top = module_quant(document.data.get("quantize", {}), "/quantize", names, findings)
    stages: dict[str, Stage] = {}
    for name in ordered(raw["stages"]):
        settings = dict(raw["stages"][name])
        written = document.data["stages"][name].get("quantize")
        if written is not None:
            settings["quantize"] = written
        stages[name] = build_stage(name, settings, names, findings, top, raw["march"])
    findings.stop()
    spec = Spec(
        name=raw["name"],
        march=raw["march"],
        seed=raw["seed"],
        model=model,
        inputs=inputs,
        data=data,
        quantize=top,
        stages=stages,
        plugins=tuple(raw["plugins"]),
        document=document,
    )
    findings.add(check_inputs(spec))
    findings.add(check_stages(spec, names))
    findings.add(refused(document))
    findings.stop()
    return spec


def with_sizes(spec: Spec, sizes: Mapping[str, int], registry: Registry | None = None) -> Spec:
    """A loaded spec with chosen batch sizes (pointer -> number) in place of `auto`, in its
    candidates too. registry: where names are looked up; None: the installed plugins.

    Raises DiagnosticError."""
    one = partial(_build_candidate, names=registry or installed())
    return with_batch_sizes(spec, sizes, lambda document: with_candidates(one(document), one))


def warnings(spec: Spec, registry: Registry | None = None) -> tuple[Diagnostic, ...]:
    """What a spec may run with but should not be silent about, with places; and what plugins' own
    checks find (these may be errors)."""
    names = registry or installed()
    diagnostics: list[Diagnostic] = []
    for stage in spec.stages:
        for leaf in spec.quantization(stage):
            if leaf.qconfig is not None:
                diagnostics.extend(repeated_rules(leaf.qconfig))
    diagnostics += warn_of_inputs(spec)
    diagnostics += [d for d in check_stages(spec, names) if d.severity == "warning"]
    return spec.document.resolve([*diagnostics, *names.checks(spec)])


def _file_plugins(
    document: Document, paths: Sequence[str], names: Registry, allow_code: bool
) -> None:
    findings = Findings()
    for i, path in enumerate(paths):
        at = join("/plugins", i)
        if not allow_code:
            findings.add(
                [
                    QS006.diagnostic(
                        f"the spec loads code from `{path}`",
                        help="read the file, then pass --allow-code",
                        at=at,
                    )
                ]
            )
            continue
        with findings:
            names.include(Path(document.span(at).file).parent / path, at)
    findings.stop()


def _component(
    kind: str,
    raw: Mapping[str, Any],
    at: str,
    names: Registry,
    findings: Findings,
    of_inputs: Mapping[str, Any] | None = None,
) -> Component:
    """A registered thing; its params checked by its own schema, their defaults filled in.

    of_inputs: what of the model's inputs a data set takes over in params that are not written."""
    params = raw["params"]
    with findings:
        record = names.record(kind, raw["type"], join(at, "type"))
        schema: JSONSchema = record.params
        if of_inputs is not None:
            params = {**taken_from_input(schema, of_inputs), **params}
        if wrong := check(params, schema, join(at, "params")):
            raise DiagnosticError(wrong if raw["params"] else [_without_params(schema, at)])
        params = with_defaults(schema, params)
        plugin = names.entry_point(kind, raw["type"])
        return Component(type=record.name, params=params, plugin=plugin, at=at)
    return Component(type=raw["type"], params=params, at=at)


def _without_params(schema: JSONSchema, at: str) -> Diagnostic:
    """No params are given, and some are needed."""
    wanted = [f"{k}: {example(schema['properties'][k], schema)}" for k in schema["required"]]
    return QS202.diagnostic(
        f"`{split(at)[-1]}` lacks the key `params`",
        help=f"add `params: {{{', '.join(wanted)}}}`, with your own values",
        at=at,
        key=True,
    )


def _data(
    raw: Mapping[str, Any], of_inputs: Mapping[str, Any], names: Registry, findings: Findings
) -> dict[str, DataRole]:
    roles = {
        role: DataRole(
            dataset=_component(
                "dataset", raw[role], join("/data", role), names, findings, of_inputs
            ),
            batch_size=batch_size(raw[role]["batch_size"]),
            workers=raw[role]["workers"],
            broken=raw[role]["broken"],
            at=join("/data", role),
        )
        for role in ("train", "calibration", "qat", "val")
        if role in raw
    }
    roles.setdefault("calibration", roles["train"])
    roles.setdefault("qat", roles["train"])
    return roles
