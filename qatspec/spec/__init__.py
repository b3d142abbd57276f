"""The frozen Spec, its construction from a Document, and quant-rule matching (pure)."""

from qatspec.spec.build import build, load, warnings
from qatspec.spec.coverage import Call, check_rules
from qatspec.spec.dump import dump
from qatspec.spec.fixes import fix_files
from qatspec.spec.image import FROM_INPUT, check_image, preprocessing, takes_scale
from qatspec.spec.migrate import migrate
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
from qatspec.spec.opset import needed_opset
from qatspec.spec.prepare import prepare_config
from qatspec.spec.qconfig import qconfig_rules
from qatspec.spec.rules import PRECEDENCE, RuleMatch, decide
from qatspec.spec.runtime_input import check_runtime_input, runtime_input
from qatspec.spec.stages import PREDECESSORS, predecessor, weights_file

__all__ = [
    "FROM_INPUT", "PRECEDENCE", "PREDECESSORS", "STAGES", "Call", "Component", "DataRole",
    "InputSpec", "ModuleQuant", "QConfigRules", "Rule", "RuleMatch", "Solver", "Spec", "Stage",
    "Trainer",
    "build", "check_image", "check_rules", "check_runtime_input", "decide", "dump",
    "fix_files", "load", "migrate", "needed_opset", "predecessor", "prepare_config",
    "preprocessing", "qconfig_rules", "runtime_input", "takes_scale", "warnings", "weights_file",
]  # fmt: skip
