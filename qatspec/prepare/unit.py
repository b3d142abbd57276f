"""What the passes of prepare work on: one module that is prepared, and its fused ops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import fx, nn
from torch.utils import _pytree as pytree

from qatspec.diag import Collector, Diagnostic, Span
from qatspec.graph.context import GraphContext
from qatspec.graph.ends import Ends
from qatspec.graph.prepared import Decision
from qatspec.graph.refusals import REFUSED
from qatspec.graph.source import line_span
from qatspec.prepare.capture import Call as ModuleCall
from qatspec.prepare.custom import Custom
from qatspec.spec import Call, Rule
from qatspec.spec.model import QConfigRules
from qatspec.spec.rules import RuleMatch
from qatspec.types import Annotation, PrepareConfig, QSpec


@dataclass(slots=True, eq=False)
class FusedOps:
    """Ops that run as one, decided by their anchor. An op that is not fused stands alone in one.

    nodes      in order, the anchor first; nothing stands between them.
    norm       the batch norm to fold, if one.
    match      the rule that decides; match.qconfig None: the ops stay in float.
    annotation how the result is quantized, set by pass `annotate`.
    declined   why a longer chain was not fused.
    by_fuser   a fuser method of the spec made one module of the first nodes.
    """

    nodes: list[fx.Node]
    norm: fx.Node | None = None
    match: RuleMatch = field(default_factory=lambda: RuleMatch(None))
    annotation: Annotation = field(init=False, repr=False)
    declined: str = ""
    by_fuser: bool = False

    @property
    def anchor(self) -> fx.Node:
        """The node that rules decide by."""
        return self.nodes[0]

    @property
    def last(self) -> fx.Node:
        """The node whose value leaves the group."""
        return self.nodes[-1]

    @property
    def annotated(self) -> bool:
        """Whether `annotation` is set."""
        return hasattr(self, "annotation")

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


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """How the graphs of evaluation and of training differ.

    evaluation, training: nodes of each that the other lacks. merged: node of the training graph ->
    the node of `Unit.graph` that computes it in both modes. same: both modes return the same.
    """

    evaluation: Sequence[fx.Node]
    training: Sequence[fx.Node]
    merged: Mapping[fx.Node, fx.Node]
    same: bool


@dataclass(slots=True, eq=False, kw_only=True)
class Unit:
    """One module that is prepared: what is asked of it, and what the passes have made of it so far.

    What is asked:

    path       absolute path in the model, "" = the whole model.
    rule_path  the path that rule names are relative to.
    at         pointer of the module's entry in the spec.
    inner      a standalone module: the unit around it quantizes its inputs.
    standalone paths inside the unit that are units of their own.
    custom     the code that `config` names.
    march      the march whose special cases handlers apply, None = generic.
    fused_add  the march adds inside an accumulator (Arithmetic.fused_add).

    What the passes fill in (`passes.py` says which pass):

    module     the float module, from pass `module` on the traced one.
    call       the arguments of the module on the example inputs; scales: the fixed ones of those
               that are inputs of the model.
    graph      the graph that the passes edit; training: that of training mode, until they are one.
    context    read access to the graph, from pass `module` on.
    difference of the two graphs, until the pass `boundary`.
    end        the call of the `Ends` behind the quantized graph, None where there are none.
    calls      every op as rules see it; matches: the rule that decides each node.
    groups     the fused ops in graph order.
    calls_by_module   id of a called module -> its call nodes, while ops are fused.
    decisions  "<path>:<node name>" -> Decision.
    refusals   what cannot be prepared; the passes go on, to find further places.
    finished   all passes ran.
    quantized_outputs: for each flat output, whether it is on an integer grid.
    """

    path: str
    rule_path: str
    rules: QConfigRules
    config: PrepareConfig
    quantize_input: bool
    quantize_output: bool
    custom: Custom = field(default_factory=Custom)
    march: str | None = None
    fused_add: bool = True
    at: str = ""
    inner: bool = False
    standalone: frozenset[str] = frozenset()

    module: nn.Module = field(init=False, repr=False)
    call: ModuleCall = field(init=False, repr=False)
    graph: fx.Graph = field(init=False, repr=False)
    scales: tuple[float | None, ...] = ()
    training: fx.Graph | None = None
    difference: Difference | None = None
    end: fx.Node | None = None
    context: GraphContext = field(init=False, repr=False)
    observed: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    matches: dict[fx.Node, RuleMatch] = field(default_factory=dict)
    groups: list[FusedOps] = field(default_factory=list)
    calls_by_module: dict[int, list[fx.Node]] = field(default_factory=dict)
    decisions: dict[str, Decision] = field(default_factory=dict)
    warnings: list[Diagnostic] = field(default_factory=list)
    refusals: Collector = field(default_factory=Collector)
    finished: bool = False
    quantized_outputs: list[bool] = field(default_factory=list)

    def start(
        self, module: nn.Module, call: ModuleCall, scales: Sequence[float | None] = ()
    ) -> None:
        """Set the module to prepare and the arguments that it is called with.

        scales: the fixed scale of each argument that is an input of the model, None of others; they
        hold where `prepare` of the unit fixes none.
        """
        self.module, self.call = module, call
        if not self.inner and self.quantize_input and self.config.input_scale is None:
            self.scales = tuple(scales)

    def input_scale(self, position: int) -> float | None:
        """The fixed scale of the argument at a place, None where it is observed."""
        if self.config.input_scale is not None:
            return self.config.input_scale
        return self.scales[position] if position < len(self.scales) else None

    @property
    def traced(self) -> bool:
        """Whether there is a graph already."""
        return hasattr(self, "graph")

    @property
    def is_recorded_unevenly(self) -> bool:
        """Whether a module was recorded in one mode, and could not be in the other."""
        if not self.traced or self.training is None:
            return False
        graphs = (self.graph, self.training)
        one, two = ({n.target for n in g.nodes if REFUSED in n.meta} for g in graphs)
        return one != two

    @property
    def ends(self) -> Ends | None:
        """The module that `end` calls."""
        ends = None if self.end is None else self.module.get_submodule(str(self.end.target))
        assert ends is None or isinstance(ends, Ends)
        return ends

    def outputs(self) -> list[fx.Node]:
        """The results of the quantized graph in evaluation: what is returned, or what evaluation
        computes that from. One that is returned twice comes twice."""
        if self.end is None or self.ends is None:
            return self.results()
        read = zip(self.end.args, self.ends.read_in_evaluation(), strict=True)
        return [
            n
            for n, is_read in read
            if isinstance(n, fx.Node)
            and is_read
            and n.op != "placeholder"
            and self.context.is_float_tensor(n)
            and not self.context.is_constant(n)
        ]

    def results(self) -> list[fx.Node]:
        """What evaluation returns: nodes of the quantized graph, and of the end of evaluation."""
        if self.end is None or self.ends is None:
            return _nodes(self.graph.output_node())
        graph = self.ends.in_evaluation.graph
        inputs = (n for n in graph.nodes if n.op == "placeholder")
        argument_of = dict(zip(inputs, self.end.args, strict=True))
        return [argument_of.get(n, n) for n in _nodes(graph.output_node())]

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


def _nodes(output: fx.Node) -> list[fx.Node]:
    return [n for n in pytree.tree_leaves(output.args) if isinstance(n, fx.Node)]


def join(*parts: str) -> str:
    """Module paths joined by dots, empty ones left out."""
    return ".".join(p for p in parts if p)


def pointers(rules: Iterable[Rule]) -> tuple[str, ...]:
    """The spec pointers of rules."""
    return tuple(rule.at for rule in rules)
