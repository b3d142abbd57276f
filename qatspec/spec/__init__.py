"""The frozen Spec, its construction from a Document, and quant-rule matching (pure)."""

from qatspec.spec.batch_sizes import TRIED as TRIED, unchosen as unchosen
from qatspec.spec.build import (
    build as build,
    load as load,
    warnings as warnings,
    with_sizes as with_sizes,
)
from qatspec.spec.coverage import Call as Call, check_rules as check_rules
from qatspec.spec.dump import dump as dump
from qatspec.spec.fixes import fix_files as fix_files
from qatspec.spec.image import (
    check_image as check_image,
    picture_record as picture_record,
    takes_scale as takes_scale,
)
from qatspec.spec.inputs import (
    CHANNELS as CHANNELS,
    FROM_INPUT as FROM_INPUT,
    INPUTS as INPUTS,
    picture_fitting as picture_fitting,
    preprocessing as preprocessing,
)
from qatspec.spec.migrate import migrate as migrate
from qatspec.spec.model import (
    STAGES as STAGES,
    Candidate as Candidate,
    Component as Component,
    DataRole as DataRole,
    GivenInput as GivenInput,
    InputSpec as InputSpec,
    ModuleQuant as ModuleQuant,
    QConfigRules as QConfigRules,
    Rule as Rule,
    Solver as Solver,
    Spec as Spec,
    Stage as Stage,
    TensorSpec as TensorSpec,
    Trainer as Trainer,
)
from qatspec.spec.opset import needed_opset as needed_opset
from qatspec.spec.prepare import prepare_config as prepare_config
from qatspec.spec.qconfig import qconfig_rules as qconfig_rules
from qatspec.spec.rules import PRECEDENCE as PRECEDENCE, RuleMatch as RuleMatch, decide as decide
from qatspec.spec.runtime_input import (
    Feed as Feed,
    check_runtime_input as check_runtime_input,
    feeds as feeds,
)
from qatspec.spec.stages import (
    PREDECESSORS as PREDECESSORS,
    predecessor as predecessor,
    weights_file as weights_file,
)
from qatspec.spec.unsigned import unsigned_in_int8 as unsigned_in_int8
