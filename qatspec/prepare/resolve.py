"""Pass 2, resolve: one rule for each op, the same for its weight and its activation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from torch import fx

from qatspec.diag import Diagnostic, Note
from qatspec.prepare.unit import Unit
from qatspec.spec.model import QConfigRules, Rule
from qatspec.spec.rules import RuleMatch, decide


def resolve(unit: Unit) -> None:
    """Fill `unit.matches`: the rule that decides each op."""
    calls: Counter[tuple[str, str]] = Counter()
    for node in unit.graph.nodes:
        if node.op in ("placeholder", "get_attr", "output"):
            continue
        module, names = _address(unit, node)
        scope = module if node.op != "call_module" else module.rpartition(".")[0]
        call = (scope, names[0])
        unit.matches[node] = decide(unit.rules, module=module, ops=names, index=calls[call])
        calls[call] += 1


def whole_unit(unit: Unit) -> RuleMatch:
    """The rule for the unit itself: what decides an input that no op speaks for."""
    return decide(unit.rules, module=unit.rule_name(""), ops=())


def check_rules(units: Sequence[Unit]) -> list[Diagnostic]:
    """Warnings: rules that match nothing in any unit, and rules where the other precedence would
    have decided otherwise."""
    sets = {id(unit.rules): unit.rules for unit in units}
    found: list[Diagnostic] = []
    for key, rules in sets.items():
        users = [unit for unit in units if id(unit.rules) == key]
        found += [_matches_nothing(rule) for rule in rules.rules if not _matches(rule, users)]
        found += _shadowed(rules, users)
    return found


def _address(unit: Unit, node: fx.Node) -> tuple[str, tuple[str, ...]]:
    """(module, names of the op): what rules can say of a node."""
    return unit.rule_name(node.meta.get("owner", "")), unit.context.rule_names(node)


def _matches(rule: Rule, units: Sequence[Unit]) -> bool:
    if rule.kind == "global":
        return True
    for unit in units:
        for match in unit.matches.values():
            if any(r is rule for r in (match.winner, *match.losers)):
                return True
    # An earlier rule of its kind may have been chosen in its place.
    alone = QConfigRules(rules=(rule,))
    return any(
        decide(alone, module=module, ops=names).winner
        for unit in units
        for module, names in (_address(unit, node) for node in unit.matches)
    )


def _matches_nothing(rule: Rule) -> Diagnostic:
    kind = rule.kind.replace("_", " ")
    return Diagnostic(
        code="QS312",
        message=f"the {kind} rule `{rule.key}` matches nothing in the model",
        help="module names are relative to the prepared module; `qatspec check` lists every op",
        at=rule.at or None,
        key=True,
        severity="warning",
    )


def _shadowed(rules: QConfigRules, units: Sequence[Unit]) -> list[Diagnostic]:
    """One warning for each pair of rules, naming the first op that they contend for."""
    other = "module_name_first" if rules.precedence == "object_type_first" else "object_type_first"
    found: dict[tuple[int, int], Diagnostic] = {}
    for unit in units:
        for node, match in unit.matches.items():
            if not match.shadowed or match.winner is None:
                continue
            loser = next(r for r in match.losers if r.value != match.winner.value)
            found.setdefault(
                (id(match.winner), id(loser)),
                Diagnostic(
                    code="QS314",
                    message=f"`{match.winner.key}` decides `{unit.key(node)}`; with "
                    f"`precedence: {other}` it would be `{loser.key}`",
                    help=f"set `precedence: {other}` if that is what you mean",
                    at=match.winner.at or None,
                    severity="warning",
                    notes=(Note("the rule that loses", at=loser.at or None),),
                ),
            )
    return list(found.values())
