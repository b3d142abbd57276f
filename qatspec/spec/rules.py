"""Who decides how a module is quantized: one decision for weight and activation alike. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from qatspec.spec.model import Precedence, QConfigRules, Rule
from qatspec.spec.regex import literal_prefix
from qatspec.types import QConfig

#: Kinds of rules, strongest first. object_type_first is the order of the community QAT tutorial,
#: module_name_first that of torch.ao.quantization.QConfigMapping. A rule for one call names the
#: op as well as the module and stands first in both.
PRECEDENCE: Mapping[Precedence, tuple[str, ...]] = {
    "object_type_first": (
        "module_name_object_type_order", "object_type", "module_name_regex", "module_name",
        "global",
    ),
    "module_name_first": (
        "module_name_object_type_order", "module_name", "module_name_regex", "object_type",
        "global",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class RuleMatch:
    """What `decide` found.

    winner    the rule that decides; None: no rule matches, the module stays in float.
    losers    the other rules that match, strongest first.
    shadowed  the other precedence would decide otherwise: a warning names both rules.
    """

    winner: Rule | None
    losers: tuple[Rule, ...] = ()
    shadowed: bool = False

    @property
    def qconfig(self) -> QConfig | None:
        """How to quantize; None: leave in float."""
        return self.winner.value if self.winner else None


def decide(
    rules: QConfigRules, *, module: str, ops: Sequence[str], index: int | None = None
) -> RuleMatch:
    """The rule for one op.

    module  path of the module, relative to the prepared one; "" is the prepared module itself.
            For an op that is a function, the module whose forward calls it.
    ops     every name that a rule can call the op by: "torch.nn.Conv2d", "conv2d", ...
    index   which call of this op in its scope this is, from 0; rules of the kind
            module_name_object_type_order match only where it is given. The scope is the module
            whose forward calls the op: for a function `module`, for a module its parent.

    Within a kind: first match for regexes (`re.match`), longest prefix for names, exact for types.
    """
    matching = _index(rules).matching(module, ops, index)
    order = PRECEDENCE[rules.precedence]
    ranked = sorted(matching, key=lambda rule: order.index(rule.kind))
    if not ranked:
        return RuleMatch(None)
    other: Precedence = (
        "module_name_first" if rules.precedence == "object_type_first" else "object_type_first"
    )
    best = min(matching, key=lambda rule: PRECEDENCE[other].index(rule.kind))
    shadowed = best is not ranked[0] and best.value != ranked[0].value
    return RuleMatch(ranked[0], tuple(ranked[1:]), shadowed)


@dataclass(slots=True)
class _Index:
    """Rules by how they are looked up, so that thousands of them cost one lookup a module."""

    for_all: Rule | None = None
    types: dict[str, Rule] = field(default_factory=dict)
    names: dict[str, Rule] = field(default_factory=dict)
    regexes: dict[str, list[tuple[int, Rule]]] = field(default_factory=dict)
    calls: dict[tuple[str, str, int], Rule] = field(default_factory=dict)

    def matching(self, module: str, ops: Sequence[str], index: int | None) -> list[Rule]:
        """At most one rule a kind."""
        rules: list[Rule | None] = []
        if index is not None and self.calls:
            scopes = (module, module.rpartition(".")[0])
            keys = ((scope, op, index) for scope in scopes for op in ops)
            rules.append(next((self.calls[key] for key in keys if key in self.calls), None))
        rules.append(next((self.types[op] for op in ops if op in self.types), None))
        rules.append(self._first_regex(module))
        rules.append(self._named(module))
        rules.append(self.for_all)
        return [rule for rule in rules if rule is not None]

    def _first_regex(self, module: str) -> Rule | None:
        """The first rule that matches. Rules are kept by the text that they begin with, so that
        only those that begin as the module does are tried."""
        begins = (module[:end] for end in range(len(module) + 1))
        tried = [item for text in begins if text in self.regexes for item in self.regexes[text]]
        ordered = sorted(tried, key=lambda item: item[0])
        return next((rule for _, rule in ordered if re.match(rule.key, module)), None)

    def _named(self, module: str) -> Rule | None:
        while module:
            if module in self.names:
                return self.names[module]
            module = module.rpartition(".")[0]
        return None


#: Built indexes with the rules they belong to: an id is valid while its rules are held here.
_BUILT: dict[int, tuple[QConfigRules, _Index]] = {}
_MAX_BUILT = 64


def _index(rules: QConfigRules) -> _Index:
    built = _BUILT.get(id(rules))
    if built is not None:
        return built[1]
    index = _Index()
    for position, rule in enumerate(rules.rules):
        match rule.kind:
            case "global":
                index.for_all = index.for_all or rule
            case "object_type":
                index.types.setdefault(rule.key, rule)
            case "module_name":
                index.names.setdefault(rule.key, rule)
            case "module_name_regex":
                beginning = literal_prefix(rule.key)
                index.regexes.setdefault(beginning, []).append((position, rule))
            case "module_name_object_type_order":
                index.calls.setdefault(rule.key, rule)
    while len(_BUILT) >= _MAX_BUILT:
        del _BUILT[next(iter(_BUILT))]
    _BUILT[id(rules)] = (rules, index)
    return index
