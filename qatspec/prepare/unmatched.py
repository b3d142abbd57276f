"""Patterns of `additional_quant_pattern` that decide no op."""

from __future__ import annotations

from collections.abc import Sequence

from qatspec.diag import Diagnostic
from qatspec.diag.codes import QS602
from qatspec.diag.words import quote_list
from qatspec.prepare.custom import matches_entry
from qatspec.prepare.unit import Unit


def unmatched_patterns(units: Sequence[Unit]) -> list[Diagnostic]:
    """Return a warning QS602 for each pattern with which no fused ops of any unit begin."""
    asked = {names: unit for unit in units for names, _ in unit.custom.quantizers}
    return [_without_effect(names, asked[names], units) for names in asked if _idle(names, units)]


def _idle(names: Sequence[str], units: Sequence[Unit]) -> bool:
    return not any(
        unit.custom.matches(names, group.nodes, unit.context)
        for unit in units
        for group in unit.groups
    )


def _without_effect(names: Sequence[str], unit: Unit, units: Sequence[Unit]) -> Diagnostic:
    fused = (
        f"`{node.name}` is fused behind `{group.anchor.name}`, which decides"
        for other in units
        for group in other.groups
        for node in group.nodes[1:]
        if matches_entry(other.context, node, names[0])
    )
    return QS602.warning(
        f"the pattern of {quote_list(names)} in `additional_quant_pattern` decides no op: "
        + next(fused, "the prepared modules have none"),
        help="name the op in front of it too, or remove the pattern",
        at=f"{unit.at}/prepare/additional_quant_pattern" if unit.at else None,
    )
