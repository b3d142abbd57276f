"""What costs most on the chip, and changes of the network that are compiled before they are told.

Each change is made in the Program (`qatspec.backend.rewrite`), compiled with the options of the
original and scheduled: its gain is the difference of the two latencies. One without a gain is not
told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qatspec.backend.changes import proposals
from qatspec.backend.cost import macs
from qatspec.backend.perf import timing
from qatspec.backend.profile import Cost, costs
from qatspec.backend.rewrite import Change, rewrite
from qatspec.diag import DiagnosticError
from qatspec.program import Artifact, Program

#: (Program, options) -> its compiled file.
Compiling = Callable[[Program, Mapping[str, Any]], Artifact]

#: A wider layer is free where the latency rises by less than this share.
_FREE = 0.001
#: Gains below this share of the latency are not told.
_LEAST = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """A change that pays. before, after: latency in us. more: by how much the multiply-adds of the
    network grow for nothing, for a change that makes layers wider; else 0."""

    what: str
    why: str
    modules: tuple[str, ...]
    source: str
    before: float
    after: float
    more: float = 0.0

    @property
    def gain(self) -> float:
        """Latency that the change saves, in us; below 0 where it costs some."""
        return self.before - self.after


@dataclass(frozen=True, slots=True, kw_only=True)
class Advised:
    """What costs most, and what to do.

    latency   of the network, in us. costs: every layer, the dearest first.
    advice    changes that save time, the largest gain first; free: those that cost no time.
    together  (number of changes, latency in us) of the largest gains at once; None for fewer than
              two.
    tried     proposals that were compiled, of so many `proposed`.
    """

    latency: float
    costs: tuple[Cost, ...]
    advice: tuple[Advice, ...]
    free: tuple[Advice, ...]
    together: tuple[int, float] | None
    tried: int
    proposed: int


def advise(
    program: Program,
    compiled: Compiling,
    options: Mapping[str, Any],
    *,
    most: int,
    settings: Mapping[str, Mapping[str, Any]],
    report: Callable[[str], None],
) -> Advised:
    """Find changes that make `program` faster on its chip.

    compiled  (Program, options) -> its compiled file.
    options   of the march, as the user has them.
    most      how many proposals are compiled: those that may gain most.
    settings  words -> options that may be faster than `options`.
    report    called with a line before each compilation.

    Raises DiagnosticError where the march refuses the network as it is.
    """
    timed = timing(compiled(program, options))
    before, layers = timed.latency, costs(timed)
    chosen = list(proposals(program, timed, layers))
    chosen.sort(key=lambda p: -p.potential)
    paying: list[tuple[Advice, Change]] = []
    free: list[Advice] = []
    tried = chosen[:most]
    for number, proposal in enumerate(tried, 1):
        report(f"{number} of {len(tried)}: {proposal.what}")
        changed = rewrite(program, proposal.change)
        if changed is None:
            continue
        after = _latency(changed, compiled, options)
        if after is None:
            continue
        advice = Advice(
            what=proposal.what, why=proposal.why, modules=proposal.modules, source=proposal.source,
            before=before, after=after,
        )  # fmt: skip
        if proposal.widens:
            more = _macs(changed) / max(1, _macs(program)) - 1
            if advice.gain >= -_FREE * before and more > 0:
                free.append(replace(advice, more=more))
        elif advice.gain > _LEAST * before:
            paying.append((advice, proposal.change))
    paying.sort(key=lambda pair: -pair[0].gain)
    told = [advice for advice, _ in paying]
    for words, other in settings.items():
        after_us = timing(compiled(program, {**options, **other})).latency
        if before - after_us > _LEAST * before:
            told.append(
                Advice(
                    what=words, why="an option of `compile`; the network stays as it is",
                    modules=(), source="", before=before, after=after_us,
                )
            )  # fmt: skip
    return Advised(
        latency=before,
        costs=layers,
        advice=tuple(sorted(told, key=lambda a: -a.gain)),
        free=tuple(sorted(free, key=lambda a: -a.more)),
        together=_together(program, [change for _, change in paying], compiled, options),
        tried=len(tried),
        proposed=len(chosen),
    )


def _latency(program: Program, compiled: Compiling, options: Mapping[str, Any]) -> float | None:
    """Latency (us) of a changed network, None where the march refuses it."""
    try:
        return timing(compiled(program, options)).latency
    except DiagnosticError:
        return None


def _macs(program: Program) -> int:
    return sum(macs(op, program) for op in program.ops)


def _together(
    program: Program, changes: Sequence[Change], compiled: Compiling, options: Mapping[str, Any]
) -> tuple[int, float] | None:
    """(number of changes, latency in us) of as many changes at once as go together, the largest
    first."""
    joined, count, changed = Change(), 0, program
    for change in changes:
        both = joined.joined(change)
        if both is None:
            continue
        other = rewrite(program, both)
        if other is not None:
            joined, count, changed = both, count + 1, other
    after = _latency(changed, compiled, options) if count > 1 else None
    return None if after is None else (count, after)
