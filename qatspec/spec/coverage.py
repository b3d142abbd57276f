"""Rules against the ops of a model: which match nothing, and which contend for an op. Pure."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from qatspec.diag import Diagnostic, Note
from qatspec.diag.codes import QS312, QS314
from qatspec.diag.words import nearest
from qatspec.spec.model import Precedence, QConfigRules, Rule
from qatspec.spec.regex import literal_prefix
from qatspec.spec.rules import RuleMatch, decide

#: Rules that match nothing are told what they may have meant; looking through all paths is slow.
_SUGGESTED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One op of a traced model, as rules see it.

    node    "<module path>:<node name>", unique in the model, as in Prepared.decisions.
    unit    absolute path of the module whose rules decide; "" = the whole model.
    entry   the pointer of the standalone module with a qconfig of its own that decides instead.
    module  path of the op's module, relative to the unit.
    names   every name that a rule can call the op by, its canonical name first.
    index   which call of this op in its scope this is, from 0.
    anchor  node of the op that it is fused behind, which decides for both; "" = it stands alone.
    """

    node: str
    unit: str
    entry: str
    module: str
    names: tuple[str, ...]
    index: int
    anchor: str = ""

    def decide(self, rules: QConfigRules) -> RuleMatch:
        """The rule of `rules` for this op."""
        return decide(rules, module=self.module, ops=self.names, index=self.index)

    @property
    def path(self) -> str:
        """Absolute path of the op's module."""
        return ".".join(part for part in (self.unit, self.module) if part)


def check_rules(groups: Iterable[tuple[QConfigRules, Sequence[Call]]]) -> list[Diagnostic]:
    """Warnings QS312 for rules that match no op of any group that uses them, and QS314 for rules
    where the other precedence would decide otherwise. Equal rules are one set of rules."""
    sets: dict[int, tuple[QConfigRules, list[Call]]] = {}
    for rules, calls in groups:
        sets.setdefault(id(rules), (rules, []))[1].extend(calls)
    diagnostics: list[Diagnostic] = []
    for rules, calls in sets.values():
        prefixes = {call.module[:end] for call in calls for end in _ends(call.module)}
        matches = [(call, call.decide(rules)) for call in calls]
        matched_ids = {id(rule) for _, m in matches for rule in (m.winner, *m.losers)}
        unmatched = _unmatched(rules, calls, prefixes, matched_ids)
        for number, rule in enumerate(unmatched):
            diagnostics.append(_matches_nothing(rule, prefixes if number < _SUGGESTED else set()))
        diagnostics += _shadowed(rules, matches)
    return diagnostics


def _unmatched(
    rules: QConfigRules, calls: Sequence[Call], prefixes: set[str], matched_ids: set[int]
) -> list[Rule]:
    """Rules that no op matches. One that is not `seen` may still match, where an earlier rule of
    its kind was chosen in its place."""
    modules = sorted({call.module for call in calls})
    ops = {name for call in calls for name in call.names}

    def matches(rule: Rule) -> bool:
        match rule.kind:
            case "global":
                return True
            case "object_type":
                return rule.key in ops
            case "module_name":
                return rule.key in prefixes
            case "module_name_regex":
                beginning = literal_prefix(rule.key)
                alike = modules[bisect_left(modules, beginning) :]
                possible = takewhile(lambda module: module.startswith(beginning), alike)
                return any(re.match(rule.key, module) for module in possible)
            case "module_name_object_type_order":
                alone = QConfigRules(rules=(rule,))
                return any(call.decide(alone).winner for call in calls)

    return [rule for rule in rules.rules if id(rule) not in matched_ids and not matches(rule)]


def _ends(module: str) -> list[int]:
    """Where each prefix of a dotted path ends: "a.b" gives 1 and 3."""
    return [i for i, char in enumerate(module) if char == "."] + [len(module)]


def _matches_nothing(rule: Rule, paths: set[str]) -> Diagnostic:
    kind = rule.kind.replace("_", " ")
    advice = "module names are relative to the prepared module; `qatspec check` lists every op"
    if rule.kind == "module_name" and (near := nearest(rule.key, sorted(paths))):
        advice = f"did you mean `{near}`? names are relative to the prepared module"
    return QS312.warning(
        f"the {kind} rule `{rule.key}` matches nothing in the model",
        help=advice,
        at=rule.at or None,
        key=True,
    )


def _shadowed(rules: QConfigRules, matches: Sequence[tuple[Call, RuleMatch]]) -> list[Diagnostic]:
    """One warning for a set of rules: the first op that two of them contend for, and a note for
    each rule that loses to another one."""
    other: Precedence = (
        "module_name_first" if rules.precedence == "object_type_first" else "object_type_first"
    )
    contending: dict[tuple[int, int], tuple[Call, Rule, Rule]] = {}
    for call, match in matches:
        if match.shadowed and match.winner is not None:
            loser = next(r for r in match.losers if r.value != match.winner.value)
            contending.setdefault((id(match.winner), id(loser)), (call, match.winner, loser))
    if not contending:
        return []
    first, *others = contending.values()
    call, winner, loser = first
    more = f"; {len(others)} more rules contend" if len(others) > 1 else ""
    more = "; one more rule contends" if len(others) == 1 else more
    notes = [Note("the rule that loses", at=loser.at or None)]
    notes += [
        Note(f"`{r.key}` loses to `{w.key}` at `{c.node}`", at=r.at or None) for c, w, r in others
    ]
    return [
        QS314.warning(
            f"`{winner.key}` decides `{call.node}`; with `precedence: {other}` it would be "
            f"`{loser.key}`{more}",
            help=f"set `precedence: {other}` if that is what you mean",
            at=winner.at or None,
            notes=tuple(notes),
        )
    ]
