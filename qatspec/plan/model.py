"""The Plan: ordered steps with content digests and the provenance of every plugin they use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qatspec.spec import Spec

FORMAT = 1


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
    """One step of a plan. name: a stage. digest: contracts 6. keys: the result-affecting values,
    pointer -> value, that the digest covers (what "changed because" compares). inputs: earlier
    steps it starts from. outputs: paths it writes, relative to the work directory."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    digest: str
    keys: Mapping[str, Any] = field(repr=False)
    plugins: tuple[PluginRef, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What `qatspec run` executes, and nothing else. digest: of the whole spec's meaning."""

    spec: Spec
    digest: str
    steps: tuple[Step, ...]

    def step(self, name: str) -> Step:
        """The step called `name`. Raises KeyError."""
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(name)
