"""Candidates: a stage that is run in several variants, of which the best one is its result.

`candidates`, `init_from` and `seeds` of a stage are three ways to write variants; together they
give every combination. A candidate is the whole spec with the changed values in it, so that it is
checked, planned, run and resumed as any spec is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from typing import Any, cast

from qatspec.diag import Diagnostic, Note
from qatspec.diag.codes import QS405
from qatspec.source import Document
from qatspec.source.derive import derive, tree_at
from qatspec.source.pointer import join
from qatspec.source.tree import Tree
from qatspec.spec.collect import Findings
from qatspec.spec.model import Candidate, Spec, Stage, StageName
from qatspec.spec.stages import predecessor

KEYS = ("candidates", "init_from", "seeds")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]*")


def with_candidates(spec: Spec, build: Callable[[Document], Spec]) -> Spec:
    """The spec with the candidates of its stages. build: makes the spec of a document.

    Raises DiagnosticError QS405, and what the specs of candidates raise, with places.
    """
    tried = [name for name in spec.stages if _is_tried(spec.stages[name])]
    if not tried:
        return spec
    findings = Findings()
    findings.add(_refused(spec, tried))
    findings.stop()
    stage = spec.stages[tried[0]]
    candidates: list[Candidate] = []
    for variant in product(*_variants(spec, stage)):
        names = [name for name, _ in variant if name]
        document = _document(spec, stage, [edit for _, edit in variant])
        with findings, document.located():
            name = "-".join(names)
            group = "-".join(n for n in names if not n.startswith("seed-"))
            candidates.append(Candidate(name=name, group=group, spec=build(document)))
    findings.stop()
    spec = replace(spec, tried=stage.name, candidates=tuple(candidates))
    if not stage.init_from:
        return spec
    first = start_stage(spec, stage.name)  # so that the stages before serve the first candidate
    solver = replace(spec.stages[first].solver, pre_step_checkpoint=stage.init_from[0])
    stages = {**spec.stages, first: replace(spec.stages[first], solver=solver)}
    return replace(spec, stages=stages)


def start_stage(spec: Spec, stage: StageName) -> StageName:
    """The stage that takes a checkpoint of float on the way to `stage`: itself, or calibration."""
    before = predecessor(spec, stage)
    return stage if before == "float" else cast("StageName", before)


def _is_tried(stage: Stage) -> bool:
    return bool(stage.candidates or stage.init_from or stage.seeds)


def _variants(spec: Spec, stage: Stage) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Of each key, (name, arguments of `derive`) of its variants."""
    document = spec.document
    if stage.candidates:
        at = join(stage.at, "candidates")
        yield [
            (name, {"merged": {stage.at: tree_at(document, join(at, name))}})
            for name in stage.candidates
        ]
    if stage.init_from:
        at = join(f"/stages/{start_stage(spec, stage.name)}", "solver", "pre_step_checkpoint")
        of = [tree_at(document, join(stage.at, "init_from", i)) for i in _indices(stage.init_from)]
        yield [
            (_short(name), {"values": {at: value}})
            for name, value in zip(stage.init_from, of, strict=True)
        ]
    if stage.seeds:
        at = join(stage.at, "seed")
        of = [tree_at(document, join(stage.at, "seeds", i)) for i in _indices(stage.seeds)]
        yield [
            (f"seed-{seed}", {"values": {at: value}})
            for seed, value in zip(stage.seeds, of, strict=True)
        ]


def _indices(values: tuple[Any, ...]) -> range:
    return range(len(values))


def _short(checkpoint: str) -> str:
    """The name of a checkpoint in that of a candidate: epoch-8 for epoch-0008."""
    kind, dash, number = checkpoint.partition("-")
    return f"{kind}{dash}{int(number)}" if dash else kind


def _document(spec: Spec, stage: Stage, edits: list[dict[str, Any]]) -> Document:
    merged = {at: tree for edit in edits for at, tree in edit.get("merged", {}).items()}
    values: dict[str, Tree] = {}
    for edit in edits:
        values.update(edit.get("values", {}))
    without = [join(stage.at, key) for key in KEYS]
    return derive(spec.document, without=without, merged=merged, values=values)


def _refused(spec: Spec, tried: list[str]) -> Iterator[Diagnostic]:
    for name in tried[1:]:
        key = next(key for key in KEYS if getattr(spec.stages[name], key))
        first = next(key for key in KEYS if getattr(spec.stages[tried[0]], key))
        yield QS405.diagnostic(
            f"`{key}` stands in stage {name}, and stage {tried[0]} has candidates already",
            help=f"decide on {tried[0]} first, write its best values into the spec, and try those "
            f"of {name} then",
            at=f"/stages/{name}/{key}",
            key=True,
            notes=(Note("the other ones", at=f"/stages/{tried[0]}/{first}"),),
        )
    stage = spec.stages[tried[0]]
    for name, change in stage.candidates.items():
        at = join(stage.at, "candidates", name)
        if not _NAME.fullmatch(name):
            yield QS405.diagnostic(
                f"`{name}` cannot be the name of a candidate, which names a folder",
                help="use letters, digits and `_`",
                at=at,
                key=True,
            )
        for key in (key for key in (*KEYS, "seed") if key in change):
            yield QS405.diagnostic(
                f"a candidate cannot have `{key}`",
                help=f"write `{key}` into the stage: every candidate is run with it",
                at=join(at, key),
                key=True,
            )
    if stage.init_from:
        yield from _refused_start(spec, stage)


def _refused_start(spec: Spec, stage: Stage) -> Iterator[Diagnostic]:
    first = start_stage(spec, stage.name)
    written = f"/stages/{first}/solver/pre_step_checkpoint"
    if written in spec.document.spans:
        yield QS405.diagnostic(
            f"`init_from` of {stage.name} and `pre_step_checkpoint` of {first} both say where to "
            "start",
            help="delete `pre_step_checkpoint`",
            at=join(stage.at, "init_from"),
            key=True,
            notes=(Note("the other one", at=written),),
        )
