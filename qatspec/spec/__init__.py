"""The frozen Spec, its construction from a Document, and quant-rule matching (pure)."""

from qatspec.spec.model import (
    STAGES,
    Component,
    DataRole,
    InputSpec,
    ModuleQuant,
    QConfigRules,
    Rule,
    Solver,
    Spec,
    Stage,
    Trainer,
)

__all__ = [
    "STAGES", "Component", "DataRole", "InputSpec", "ModuleQuant", "QConfigRules", "Rule", "Solver",
    "Spec", "Stage", "Trainer",
]  # fmt: skip
