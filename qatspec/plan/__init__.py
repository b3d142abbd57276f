"""The Plan: what a spec compiles to."""

from qatspec.plan.batch_sizes import with_recorded_sizes as with_recorded_sizes
from qatspec.plan.changes import Change as Change, changes as changes
from qatspec.plan.data import data_findings as data_findings
from qatspec.plan.diff import (
    Difference as Difference,
    PlanDiff as PlanDiff,
    diff as diff,
    diff_data as diff_data,
    diff_text as diff_text,
)
from qatspec.plan.digest import (
    default_threads as default_threads,
    device_kind as device_kind,
    with_keys as with_keys,
)
from qatspec.plan.model import (
    Plan as Plan,
    PlannedCandidate as PlannedCandidate,
    PluginRef as PluginRef,
    Step as Step,
    candidate_folder as candidate_folder,
)
from qatspec.plan.modules import (
    load_modules as load_modules,
    rule_warnings as rule_warnings,
    rules_of as rules_of,
    save_modules as save_modules,
)
from qatspec.plan.resolve import resolve as resolve
from qatspec.plan.results import RECORD_FORMAT as RECORD_FORMAT
from qatspec.plan.show import plan_data as plan_data, plan_table as plan_table
from qatspec.plan.status import (
    StepStatus as StepStatus,
    as_chosen as as_chosen,
    chosen_name as chosen_name,
    status as status,
    step_status as step_status,
    with_results as with_results,
)
