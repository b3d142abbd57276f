"""Insert a fake-quant behind every input, result and constant that is quantized.

Each value of the graph is either on an integer grid or not. In graph order, the inputs of each
quantized group are brought onto a grid where they are not on one yet, then its result is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from qatspec.diag.codes import QS509, QS604
from qatspec.graph.clamps import is_nonnegative
from qatspec.graph.prepared import Decision, DecisionKind
from qatspec.graph.refusals import REFUSED
from qatspec.graph.sizes import is_plain
from qatspec.prepare.ends import ending_at
from qatspec.prepare.resolve import unit_rule
from qatspec.prepare.stored import is_as_stored
from qatspec.prepare.unit import FusedOps, Unit, pointers
from qatspec.quant.build import build_fake_quant
from qatspec.spec.rules import RuleMatch
from qatspec.types import Fixed, Float, OpTrait, QSpec, Shared


def insert(unit: Unit) -> None:
    """Insert the unit's activation fake-quants and record every decision.

    Refuses QS604 an output that cannot stay unquantized, QS509 a tensor that is not float32. Raises
    DiagnosticError QS601.
    """
    _Inserter(unit).run(unit.outputs(), unit.results())


@dataclass
class _Inserter:
    unit: Unit
    #: nodes whose value is on an integer grid
    on_grid: set[fx.Node] = field(default_factory=set)
    group_of: dict[fx.Node, FusedOps] = field(default_factory=dict)
    nonnegative: set[fx.Node] = field(default_factory=set)
    #: fake-quant -> the node that it is named after
    named_after: dict[fx.Node, fx.Node] = field(default_factory=dict)

    def run(self, outputs: list[fx.Node], results: list[fx.Node]) -> None:
        unit = self.unit
        self.group_of = {group.last: group for group in unit.groups}
        self.nonnegative = {n for n in unit.graph.nodes if is_nonnegative(n, unit.context)}
        kept = unit.config.output_quantized_idxs
        free = [] if unit.quantize_output else [n for i, n in enumerate(outputs) if i not in kept]
        tails = {tail for node in free if (tail := self._tail(node))}
        self._inputs()
        for group in unit.groups:
            self._group(group, group in tails)
        self._outputs(outputs, tails)
        unit.quantized_outputs = [
            n in self.on_grid and self.group_of.get(n) not in tails for n in results
        ]

    # -- inputs ---------------------------------------------------------------------------------

    def _inputs(self) -> None:
        unit = self.unit
        for i, node in enumerate([n for n in unit.graph.nodes if n.op == "placeholder"]):
            if not unit.context.carries_float(node) or not node.users:
                continue
            if not unit.quantize_input or i in unit.config.input_quantized_idxs:
                self.on_grid.add(node)
                self._record(node, None, DecisionKind.PRODUCER, "input: quantized by its producer")
                continue
            group = self._first_consumer(node)
            if group is None or group.activation is None:
                self._in_float(node, None, DecisionKind.FLOAT, "nothing quantized reads it")
                continue
            of_unit = unit_rule(unit)
            match = of_unit if of_unit.qconfig and of_unit.qconfig.activation else group.match
            assert match.qconfig is not None and match.qconfig.activation is not None
            qspec, kind, reason = match.qconfig.activation, DecisionKind.OBSERVED, "input: observed"
            if (scale := unit.input_scale(i)) is not None:
                qspec = _fixed(qspec, scale)
                kind, reason = DecisionKind.FIXED, f"input: fixed scale {scale}"
            readers = [user for user in node.users if user is not unit.end]
            self._quantize(node, None, qspec, match, kind, reason, users=readers)

    def _first_consumer(self, node: fx.Node) -> FusedOps | None:
        """The first quantized group that reads `node`, through ops that only move numbers."""
        for group in self.unit.groups:
            if not any(node in member.all_input_nodes for member in group.nodes):
                continue
            if group.annotation.kind == "passive":
                if consumer := self._first_consumer(group.last):
                    return consumer
            elif group.activation is not None and not isinstance(group.annotation.output, Float):
                return group
        return None

    # -- groups ---------------------------------------------------------------------------------

    def _group(self, group: FusedOps, tail: bool) -> None:
        intent, qspec = group.annotation.output, group.activation
        if group.anchor.op == "call_module" and group.anchor.target in self.unit.standalone:
            self._standalone(group)
            return
        if isinstance(intent, Float):
            self._in_float(group.last, group, DecisionKind.UNSUPPORTED, intent.reason)
            return
        if group.match.qconfig is None:
            cause = "no rule matches" if group.match.winner is None else "the rule says so"
            self._in_float(group.last, group, DecisionKind.FLOAT, cause)
            return
        inputs = self._tensor_inputs(group)
        if group.annotation.kind == "passive" or qspec is None:
            on_grid = all(n in self.on_grid for n in inputs)
        else:
            for node in inputs:
                self._ensure(node, qspec, group.match)
            on_grid = True
        if isinstance(intent, Shared):
            if on_grid:
                self._share(group, inputs)
            else:
                cause = "its input is in float"
                self._in_float(group.last, group, DecisionKind.FLOAT_INPUT, cause)
            return
        if qspec is None:
            cause = "the rule quantizes the weight alone"
            self._in_float(group.last, group, DecisionKind.FLOAT, cause)
            return
        kind, reason = DecisionKind.OBSERVED, "observed"
        if isinstance(intent, Fixed):
            qspec = _fixed(qspec, intent.scale)
            kind, reason = DecisionKind.FIXED, f"fixed scale {qspec.scale}"
        if tail:
            users = list(group.last.users)
            inner = [user for user in users if not self._leaves_by(user)]
            outer = [user for user in users if self._leaves_by(user)]
            if inner:
                self._quantize(
                    group.last, group, qspec, group.match, kind, reason, users=inner, number=1
                )
            kind, reason = DecisionKind.TAIL, "int32 tail"
            self._quantize(group.last, group, qspec, group.match, kind, reason, users=outer)
        else:
            self._quantize(group.last, group, qspec, group.match, kind, reason)

    def _leaves_by(self, user: fx.Node) -> bool:
        """Whether a reader of an output is outside of the integers: what is returned, and sizes."""
        size = is_plain(user.meta.get("example"))
        return user.op == "output" or user is self.unit.end or size

    def _standalone(self, group: FusedOps) -> None:
        """A standalone module quantizes its result; its inputs are quantized here where a rule says
        so, and else in the module."""
        if group.activation is not None:
            for node in self._tensor_inputs(group):
                self._ensure(node, group.activation, group.match)
        self.on_grid.add(group.last)
        self._record(group.last, group, DecisionKind.STANDALONE, "standalone: prepared by itself")

    def _tensor_inputs(self, group: FusedOps) -> list[fx.Node]:
        """The float tensors that the group reads: the annotated operands of the anchor, then those
        of the other ops, such as a residual."""
        context = self.unit.context
        anchor = group.anchor
        wanted = [anchor.args[i] for i in group.annotation.inputs if i < len(anchor.args)]
        operands = [n for n in pytree.tree_leaves(wanted) if isinstance(n, fx.Node)]
        inside = set(group.nodes)
        for node in group.nodes[1:]:
            if node is group.norm:
                continue  # its statistics are folded, not quantized
            if context.has_trait(node, OpTrait.CLAMP):
                continue  # its bounds are numbers, in buffers too
            operands += [n for n in node.all_input_nodes if n not in inside]
        return list(dict.fromkeys(n for n in operands if context.carries_float(n)))

    def _ensure(self, node: fx.Node, qspec: QSpec, match: RuleMatch) -> None:
        """Quantize `node`, or what it is computed from by ops that only move numbers."""
        if node in self.on_grid:
            return
        group = self.group_of.get(node)
        if group is not None and group.annotation.kind == "passive":
            inputs = self._tensor_inputs(group)
            if len(inputs) == 1 and self._can_climb(group, inputs[0]):
                self._ensure(inputs[0], qspec, match)
                self._share(group, inputs)
                return
        reason = "observed: a quantized op reads it"
        self._quantize(node, group, qspec, match, DecisionKind.OBSERVED, reason)

    def _can_climb(self, group: FusedOps, source: fx.Node) -> bool:
        """Whether `source`, the operand of a passive group, can be quantized instead of its result:
        a tensor can; for a tuple, the tensor that it is split from."""
        if not isinstance(group.annotation.output, Shared) or is_as_stored(source):
            return False
        if self.unit.context.is_float_tensor(source):
            return True
        before = self.group_of.get(source)
        if before is None or before.annotation.kind != "passive":
            return False
        inputs = self._tensor_inputs(before)
        return len(inputs) == 1 and self._can_climb(before, inputs[0])

    # -- outputs --------------------------------------------------------------------------------

    def _tail(self, node: fx.Node) -> FusedOps | None:
        """The group that ends in `node`, to be an int32 tail; None where a rule leaves it in float,
        and where its last op cannot be one, which is refused (QS604)."""
        group = self.group_of.get(node)
        op = self.unit.context.op(node) or node.name
        if group is not None and group.match.qconfig is None:
            return None
        if group is None or not group.annotation.int32_tail:
            return self._no_tail(f"its last op is `{op}` (`{node.name}`)", node)
        extra = [n for n in group.nodes[1:] if n is not group.norm]
        if extra:
            fused = self.unit.context.op(extra[-1])
            return self._no_tail(f"`{fused}` is fused behind `{group.anchor.name}`", node)
        return group

    def _no_tail(self, why: str, node: fx.Node) -> FusedOps | None:
        unit = self.unit
        if node.meta.get(REFUSED):  # told already
            return None
        source = unit.source(node)
        unit.refusals.add(
            QS604.diagnostic(
                f"`{unit.path or 'the model'}` has quantize_output: false, but {why}"
                + (f", at {source}" if source else ""),
                help=f"{self._earlier()}move what follows the conv into the post-process, or "
                "quantize the output",
                at=f"{unit.at}/quantize_output" if unit.at else None,
            )
        )
        return None

    def _earlier(self) -> str:
        """The advice to end the network at the convs before its outputs, where these are modules;
        else nothing."""
        modules: dict[str, None] = {}
        waiting = self.unit.outputs()[::-1]
        while waiting:
            group = self.group_of.get(waiting.pop())
            if group is None:
                return ""
            if not group.annotation.int32_tail:
                waiting += self._tensor_inputs(group)[::-1]
            elif group.anchor.op == "call_module":
                modules[str(group.anchor.target)] = None
            else:
                return ""
        return f"{ending_at(modules)}; or " if modules else ""

    def _outputs(self, outputs: list[fx.Node], tails: set[FusedOps]) -> None:
        unit = self.unit
        for node in outputs:
            group = self.group_of.get(node)
            wanted = group is not None and group.activation is not None and group not in tails
            if wanted and node not in self.on_grid and unit.context.is_float_tensor(node):
                assert group is not None and group.activation is not None
                self._quantize(
                    node,
                    group,
                    group.activation,
                    group.match,
                    DecisionKind.OBSERVED,
                    "output: observed",
                )

    # -- one fake-quant -------------------------------------------------------------------------

    def _quantize(
        self,
        node: fx.Node,
        group: FusedOps | None,
        qspec: QSpec,
        match: RuleMatch,
        kind: DecisionKind,
        reason: str,
        *,
        users: list[fx.Node] | None = None,
        number: int = 0,
    ) -> None:
        """Put a fake-quant behind `node`, and let its users (or those given) read that instead.
        The fake-quant of an int32 tail is switched off."""
        unit = self.unit
        self._require_float32(node)
        if qspec.dtype == "quint8" and node not in self.nonnegative:
            qspec = replace(qspec, dtype="qint8")
        anchor = group.anchor if group else node
        at = match.winner.at if match.winner else ""
        fake_quant = build_fake_quant(qspec, at=at)
        name = f"{anchor.name}_activation_post_process_{number}"
        unit.module.add_module(name, fake_quant)
        fake_quant.disabled = kind is DecisionKind.TAIL
        with unit.graph.inserting_after(node):
            new = unit.graph.create_node("call_module", name, (node,), name=name)
        new.meta.update(node.meta)
        for user in users or [u for u in node.users if u is not new]:
            user.replace_input_with(node, new)
        self.on_grid.update((node, new))
        self.named_after[new] = anchor
        self._record(node, group, kind, reason, qspec=qspec, match=match, name=name)

    # -- decisions ------------------------------------------------------------------------------

    def _share(self, group: FusedOps, inputs: list[fx.Node]) -> None:
        """The group's result is on the scale of its operand."""
        self.on_grid.add(group.last)
        source = self.named_after.get(inputs[0], inputs[0]).name if inputs else "its input"
        self._record(group.last, group, DecisionKind.SHARED, f"shares {source}'s scale")

    def _in_float(
        self, node: fx.Node, group: FusedOps | None, kind: DecisionKind, cause: str
    ) -> None:
        self._record(node, group, kind, f"float: {cause}", cause=cause)

    def _require_float32(self, node: fx.Node) -> None:
        value = self.unit.context.value(node)
        if isinstance(value, Tensor) and value.dtype is not torch.float32:
            self.unit.refusals.add(
                QS509.diagnostic(
                    f"`{self.unit.key(node)}` is of {value.dtype}, where float32 is expected",
                    help="remove the cast, `torch.autocast` or the tensor of another dtype that "
                    "it comes from, and pass example inputs of float32",
                    span=self.unit.span(node),
                    subject=f"`{self.unit.key(node)}`",
                )
            )

    def _record(
        self,
        node: fx.Node,
        group: FusedOps | None,
        kind: DecisionKind,
        reason: str,
        *,
        cause: str = "",
        qspec: QSpec | None = None,
        match: RuleMatch | None = None,
        name: str | None = None,
    ) -> None:
        unit = self.unit
        anchor = group.anchor if group else node
        match = match or (group.match if group else RuleMatch(None))
        op = node.op if group is None else unit.context.op(anchor)
        before = unit.decisions.get(unit.key(anchor))
        if before is not None and before.kind.computes_in_float:
            reason = f"{before.reason}; then {reason}"
            if kind is not DecisionKind.SHARED:  # the op computes in float, its result is quantized
                kind, cause = before.kind, before.cause
        declined = f"; not fused: {group.declined}" if group and group.declined else ""
        unit.decisions[unit.key(anchor)] = Decision(
            node=unit.key(anchor),
            kind=kind,
            op=op or unit.context.label(anchor),
            module=unit.absolute(anchor.meta.get("owner", "") or ""),
            group=tuple(n.name for n in group.nodes) if group else (node.name,),
            ops=tuple(map(unit.context.label, group.nodes)) if group else (),
            activation=qspec,
            weight=group.weight if group else None,
            fake_quant=unit.absolute(name) if name else None,
            rule=match.winner.at if match.winner else "",
            losers=pointers(match.losers),
            cause=cause,
            reason=reason + declined,
            source=unit.source(anchor),
        )


def _fixed(qspec: QSpec, scale: float) -> QSpec:
    return replace(qspec, observer="fixed_scale", fake_quant="fixed", scale=scale)
