"""The module table: every op of a prepared model as rules see it, kept in the work directory by
whoever built the model, so that `explain` and `validate` know what rules match without torch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qatspec.diag import Diagnostic, grouped
from qatspec.files import read_json
from qatspec.plan.digest import digest, software
from qatspec.registry import Registry, registry as installed
from qatspec.spec import Call, QConfigRules, Spec, check_rules

FORMAT = 1
_MAX_BYTES = 1 << 28


def save_modules(
    workdir: Path, spec: Spec, stage: str, calls: Iterable[Call], registry: Registry | None = None
) -> Path | None:
    """Keep the ops of the model as `stage` prepares it; None where the folder cannot be written:
    the table only saves others from building the model."""
    path = _table_file(workdir, spec, stage, registry)
    content = {"format": FORMAT, "calls": [asdict(call) for call in calls]}
    scratch = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch.open("w", encoding="utf-8") as file:
            file.write(json.dumps(content, indent=1))
            file.flush()
            os.fsync(file.fileno())  # a crash must not leave a part of it under its name
        scratch.replace(path)
    except OSError:
        return None
    return path


def load_modules(
    workdir: Path, spec: Spec, stage: str, registry: Registry | None = None
) -> tuple[Call, ...] | None:
    """The ops of the model as prepared for `stage`; None where no command has recorded them."""
    if not (workdir / "modules").is_dir():
        return None  # as in CI, where a spec is validated without torch
    try:
        content = read_json(_table_file(workdir, spec, stage, registry), _MAX_BYTES)
        if content["format"] != FORMAT:
            return None
        return tuple(_call(raw) for raw in content["calls"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def rules_of(spec: Spec, stage: str) -> dict[tuple[str, str], QConfigRules]:
    """(unit, own) of a Call -> the rules that decide it in `stage`."""
    rules: dict[tuple[str, str], QConfigRules] = {}
    for leaf in spec.quantization(stage):
        if leaf.qconfig is not None:
            rules[leaf.path, ""] = leaf.qconfig
        for item in _standalone(leaf):
            if item.qconfig is not None:
                rules["", item.at] = item.qconfig
    return rules


def rule_warnings(
    workdir: Path, spec: Spec, registry: Registry | None = None
) -> tuple[list[Diagnostic], bool]:
    """(QS312 and QS314 of every stage whose module table is there, is none missing). What two
    stages have in the same words is one warning with both places."""
    diagnostics: dict[Diagnostic, None] = {}
    known = True
    for stage in _prepared(spec):
        rules = rules_of(spec, stage)
        if not any(rule.kind != "global" for group in rules.values() for rule in group.rules):
            continue
        calls = load_modules(workdir, spec, stage, registry)
        if calls is None:
            known = False
            continue
        by_rules: dict[tuple[str, str], list[Call]] = {key: [] for key in rules}
        for call in calls:
            by_rules["" if call.entry else call.unit, call.entry].append(call)
        groups = ((rules[key], of_it) for key, of_it in by_rules.items())
        diagnostics.update(dict.fromkeys(check_rules(groups)))
    return grouped(diagnostics), known


def _prepared(spec: Spec) -> Iterator[str]:
    yield from (stage for stage in ("calibration", "qat") if stage in spec.stages)


def _standalone(leaf: Any) -> tuple[Any, ...]:
    prepare = leaf.prepare
    return (*prepare.standalone_module_name, *prepare.standalone_module_class) if prepare else ()


def _table_file(workdir: Path, spec: Spec, stage: str, registry: Registry | None) -> Path:
    """The file of the table. Its name is a digest of what the ops depend on: the model, what is
    prepared, and the code of both. Rules are not part of it."""
    provider = (registry or installed()).provider("model", spec.model.type)
    leaves = []
    for leaf in spec.quantization(stage):
        prepare = asdict(leaf.prepare) if leaf.prepare else {}
        items = [{"name": i.name, "cls": i.cls, "at": i.at} for i in _standalone(leaf)]
        prepare.pop("standalone_module_name", None)
        prepare.pop("standalone_module_class", None)
        leaves.append({"path": leaf.path, "prepare": repr(prepare), "standalone": items})
    key = {
        "model": [
            spec.model.type,
            spec.model.params,
            {name: asdict(given) for name, given in spec.inputs.items()},
        ],
        "leaves": leaves,
        "provider": [provider.dist, provider.version, provider.source_sha256],
        "software": software(),
    }
    return workdir / "modules" / f"{digest(key)[:24]}.json"


def _call(raw: dict[str, Any]) -> Call:
    return Call(**{**raw, "names": tuple(raw["names"])})
