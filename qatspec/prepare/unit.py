"""What the passes of prepare hand from one to the next: one prepared module and its groups."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import fx, nn

from qatspec.diag import Diagnostic, Span
from qatspec.graph.context import GraphContext
from qatspec.graph.module import TracedModule
from qatspec.graph.prepared import Decision
from qatspec.graph.source import line_span
from qatspec.spec import Call, Rule
from qatspec.spec.model import QConfigRules
from qatspec.spec.rules import RuleMatch
from qatspec.types import Annotation, PrepareConfig, QSpec

if TYPE_CHECKING:
    from qatspec.prepare.custom import Custom


@dataclass(slots=True, eq=False)
class Group:
    """Ops that run as one, decided by their anchor. A single op is a group of its own.

    nodes     in order, the anchor first; nothing stands between them.
    norm      the batch norm to fold, if one.
    match     the rule that decides; match.qconfig None: the group stays in float.
    declined  why a longer chain was not fused.
    fused     a fuser method of the spec made one module of the first nodes.
    """

    nodes: list[fx.Node]
    norm: fx.Node | None = None
    match: RuleMatch = field(default_factory=lambda: RuleMatch(None))
    annotation: Annotation = field(default_factory=Annotation)
    declined: str = ""
    fused: bool = False

    @property
    def anchor(self) -> fx.Node:
        """The node that rules decide by."""
        return self.nodes[0]

    @property
    def last(self) -> fx.Node:
        """The node whose value leaves the group."""
        return self.nodes[-1]

    @property
    def activation(self) -> QSpec | None:
        """How the group's result is quantized, None = float."""
        return self.match.qconfig.activation if self.match.qconfig else None

    @property
    def weight(self) -> QSpec | None:
        """How the group's weight is quantized, None = float or no weight."""
        if self.match.qconfig is None or not self.annotation.has_weight:
            return None
        return self.match.qconfig.weight


@dataclass(slots=True, eq=False)
class Unit:
    """One module being prepared.

    path       absolute path in the model, "" = the whole model.
    rule_path  the path that rule names are relative to.
    at         pointer of the module's entry in the spec.
    inner      a standalone module: the unit around it quantizes what it is fed.
    custom     the code that `config` brings.
    fused_add  the march adds inside an accumulator (Arithmetic.fused_add).
    standalone: paths inside the unit that are units of their own.
    quantized_outputs: per flat output, is it on an integer grid (set by `insert`).
    """

    path: str
    rule_path: str
    module: TracedModule
    context: GraphContext
    rules: QConfigRules
    config: PrepareConfig
    quantize_input: bool
    quantize_output: bool
    custom: Custom
    fused_add: bool = True
    at: str = ""
    inner: bool = False
    matches: dict[fx.Node, RuleMatch] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    decisions: dict[str, Decision] = field(default_factory=dict)
    warnings: list[Diagnostic] = field(default_factory=list)
    quantized_outputs: list[bool] = field(default_factory=list)
    standalone: frozenset[str] = frozenset()

    @property
    def graph(self) -> fx.Graph:
        """The graph that the passes edit."""
        return self.module.graph

    def absolute(self, path: str) -> str:
        """A path inside the unit as an absolute one."""
        return join(self.path, path)

    def rule_name(self, path: str) -> str:
        """A path inside the unit as rules name it."""
        return self.absolute(path).removeprefix(self.rule_path).removeprefix(".")

    def key(self, node: fx.Node | str) -> str:
        """The name of a node in `Prepared.decisions`."""
        return f"{self.path}:{node}"

    def source(self, node: fx.Node) -> str:
        """ "file:line" of the model's code behind a node."""
        return str(node.meta.get("source", ""))

    def span(self, node: fx.Node) -> Span | None:
        """The line of the model's code behind a node, None when unknown."""
        return line_span(self.source(node))


def join(*parts: str) -> str:
    """Module paths joined by dots, empty ones left out."""
    return ".".join(p for p in parts if p)


def replace_module(root: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put `new` at every path of `old`: a module may be registered more than once."""
    for path, module in list(root.named_modules(remove_duplicate=False)):
        if module is old:
            root.set_submodule(path, new)


def pointers(rules: Iterable[Rule]) -> tuple[str, ...]:
    """The spec pointers of rules."""
    return tuple(rule.at for rule in rules)
