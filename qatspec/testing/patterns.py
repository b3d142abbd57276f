"""Checks of fuse patterns."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from qatspec.prepare import prepare
from qatspec.prepare.capture import capture_root_call
from qatspec.prepare.fuse import fuse_by
from qatspec.prepare.passes import run_passes
from qatspec.prepare.unit import Unit
from qatspec.registry import registry
from qatspec.spec import qconfig_rules
from qatspec.testing.nets import Chain, images, layer
from qatspec.testing.subject import Skipped, Subject
from qatspec.types import FusePattern, PrepareConfig, QConfig


def fusing_keeps_eval_numerics(subject: Subject, pattern: FusePattern) -> None:
    """With every fake-quant off, the fused net computes what the original did; and the chain does
    fuse."""
    for ops, net in _nets(pattern):
        prepared = prepare(copy.deepcopy(net), (images(),), qconfig=QConfig())
        with torch.no_grad():
            off = (prepared.model(images()) - net(images())).abs().max()
        assert off < 1e-4, f"{ops}: eval changes by {off:.2g}"
        longest = max(len(d.group) for d in prepared.decisions.values())
        assert longest >= len(ops.split()), f"{ops} does not fuse"


def fusing_again_changes_nothing(subject: Subject, pattern: FusePattern) -> None:
    """What is fused is finished: a second pass over its graph finds the same groups and rewrites
    nothing."""
    for ops, net in _nets(pattern):
        unit = _unit(net)
        results = []
        for _ in range(2):
            fuse_by(unit, registry().fuse_patterns())
            results.append((str(unit.graph), [[n.name for n in g.nodes] for g in unit.groups]))
        assert results[0] == results[1], f"{ops}: fusing a second time changes the graph again"


def refusals_have_reasons(subject: Subject, pattern: FusePattern) -> None:
    """check gives None, or why it declines in words: they are shown where a batch norm is left
    unfolded."""
    check = pattern.check
    if check is None:
        return
    said: list[Any] = []

    def heard(match: Any) -> Any:
        said.append(check(match))
        return said[-1]

    for ops, net in _nets(pattern):
        others = [p for p in registry().fuse_patterns() if p.name != pattern.name]
        fuse_by(_unit(net), [replace(pattern, check=heard), *others])
        wrong = [s for s in said if s is not None and not (isinstance(s, str) and s.strip())]
        assert not wrong, f"{ops}: check gave {wrong[0]!r}, which is neither None nor a reason"


def _unit(net: Chain) -> Unit:
    """The net as `prepare` has it before it fuses."""
    unit = Unit(
        path="",
        rule_path="",
        rules=qconfig_rules(QConfig()),
        config=PrepareConfig(),
        quantize_input=True,
        quantize_output=True,
    )
    unit.start(copy.deepcopy(net), capture_root_call((images(),)).calls[""])
    run_passes(unit, "split")
    unit.refusals.raise_if_any()
    return unit


def _nets(pattern: FusePattern) -> Iterator[tuple[str, Chain]]:
    """(ops, a net of them) for chains that try each alternative once, the first ones elsewhere.
    Raises Skipped where there are none."""
    choices = [part.split("|") for part in pattern.pattern]
    known = [[op for op in ops if layer(op) is not None] for ops in choices]
    if not all(known):
        raise Skipped("the kit has no layer for it: give its handler an `example`")
    first = tuple(ops[0] for ops in known)
    chains = [(*first[:i], op, *first[i + 1 :]) for i, ops in enumerate(known) for op in ops]
    for ops in dict.fromkeys(chains):
        if "linear" in ops and "batch_norm2d" in ops:
            continue  # on four dims its channels are not the linear's features
        parts = [layer(op) for op in ops]
        yield " ".join(ops), Chain(*(part for part in parts if part is not None)).eval()
