"""The Plan: ordered steps with content digests and the provenance of every plugin they use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qatspec.spec import Spec

FORMAT = 1
#: The folder of the work directories of candidates.
CANDIDATES = "candidates"
#: (file plugin, its folder) of several.
Folders = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginRef:
    """Who provides a registered thing: kind ("model"), its name, entry point, dist==version,
    and the sha256 of the plugin's sources."""

    kind: str
    name: str
    entry_point: str
    dist: str
    version: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a plan.

    name        a stage.
    inputs      earlier steps it starts from; takes: what it takes of them ("best" or "last", the
                chosen weights; "program", what convert wrote).
    outputs     paths it writes, relative to the work directory.
    digest      of `keys`: what its tensors depend on, pointer or name -> value. While an earlier
                step is not finished, `input:<step>` holds that step's digests; afterwards the
                sha256 of what is taken (`starting_from`).
    evaluation  of `judged_by`: what its metrics depend on besides its tensors. Another one judges
                the kept checkpoints again and trains nothing. "" where nothing is judged.
    watches     its tensors depend on its evaluations (early stop, a plateau schedule): then `keys`
                hold `judged_by` too.
    folders     (file plugin, its folder) of those whose code takes part in the tensors, and
                judging_folders of those that only judge: what they read there is known after a
                run alone (qatspec.plan.opened).
    provenance  what stands beside the results and is never compared: name and march.
    """

    name: str
    inputs: tuple[str, ...]
    takes: str = ""
    outputs: tuple[str, ...]
    digest: str
    keys: Mapping[str, Any] = field(repr=False)
    evaluation: str = ""
    judged_by: Mapping[str, Any] = field(default_factory=dict, repr=False)
    watches: bool = False
    folders: Folders = field(default=(), repr=False)
    judging_folders: Folders = field(default=(), repr=False)
    provenance: Mapping[str, str] = field(default_factory=dict)
    plugins: tuple[PluginRef, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What `qatspec run` executes, and nothing else.

    spec        what is planned; behind a stage with candidates, the spec of the best one.
    digest      sha256 of the meaning of `spec`, in hexadecimal digits.
    steps       one for each stage that runs, in order.
    tried       the stage that is run in several variants, which are `candidates`.
    experimental  why the march is no more than a sketch of its chip, "" where it is more.
    """

    spec: Spec
    digest: str
    steps: tuple[Step, ...]
    tried: str | None = None
    experimental: str = ""
    candidates: tuple[PlannedCandidate, ...] = ()

    def step(self, name: str) -> Step:
        """Return the step called `name`. Raises KeyError."""
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCandidate:
    """A variant of a stage (`qatspec.spec.Candidate`) with its plan, of which the steps up to that
    stage are run in a work directory of its own. A step that is equal to the spec's is run once, in
    the work directory of the spec."""

    name: str
    group: str
    plan: Plan
    stage: str

    @property
    def steps(self) -> tuple[Step, ...]:
        """Its steps, the last of which is the tried stage."""
        names = [step.name for step in self.plan.steps]
        return self.plan.steps[: names.index(self.stage) + 1]

    def folder(self, workdir: Path) -> Path:
        """Its work directory, in that of the spec."""
        return candidate_folder(workdir, self.stage, self.name)


def candidate_folder(workdir: Path, stage: str, name: str) -> Path:
    """The work directory of the candidate `name` of a stage."""
    return workdir / CANDIDATES / f"{stage}-{name}"
