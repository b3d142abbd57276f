"""What callables of records and hooks see of objects whose classes stand in higher layers.

Each protocol names its class. A callable that a plugin annotates with the class fits as well, where
the record names it by `lazy`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np


class OpView(Protocol):
    """An integer op of a Program (qatspec.api.Op)."""

    @property
    def kind(self) -> str: ...
    @property
    def inputs(self) -> tuple[str, ...]: ...
    @property
    def output(self) -> str: ...
    @property
    def attrs(self) -> Mapping[str, Any]: ...


class ProgramView(Protocol):
    """The integer program that a march compiles (qatspec.api.Program)."""

    @property
    def name(self) -> str: ...
    @property
    def ops(self) -> Sequence[OpView]: ...
    @property
    def consts(self) -> Mapping[str, np.ndarray]: ...
    def run(self, *ints: np.ndarray) -> list[np.ndarray]: ...
    def to_bytes(self) -> bytes: ...


class ArtifactView(Protocol):
    """A Program compiled for one march (qatspec.api.Artifact)."""

    @property
    def march(self) -> str: ...
    @property
    def manifest(self) -> Mapping[str, Any]: ...
    @property
    def sections(self) -> Mapping[str, bytes]: ...
    def to_bytes(self) -> bytes: ...


class ComponentView(Protocol):
    """A registered name and its params, defaults filled in. plugin: entry point or file of the
    plugin that registers it. at: its place in the spec."""

    @property
    def type(self) -> str: ...
    @property
    def params(self) -> Mapping[str, Any]: ...
    @property
    def plugin(self) -> str: ...
    @property
    def at(self) -> str: ...


class DataView(Protocol):
    """A data role of a spec: `data.train`, `data.val`, ..."""

    @property
    def dataset(self) -> ComponentView: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def at(self) -> str: ...


class SpecView(Protocol):
    """A spec that is read and valid (qatspec.api.Spec)."""

    @property
    def name(self) -> str: ...
    @property
    def march(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def model(self) -> ComponentView: ...
    @property
    def data(self) -> Mapping[str, DataView]: ...
    @property
    def stages(self) -> Mapping[str, object]: ...
