"""The Plan: what a spec compiles to."""

from qatspec.plan.changes import Change, changes
from qatspec.plan.data import data_findings
from qatspec.plan.diff import Difference, PlanDiff, diff, diff_data, diff_text
from qatspec.plan.digest import default_threads, device_kind, with_keys
from qatspec.plan.model import Plan, PluginRef, Step
from qatspec.plan.modules import load_modules, rule_warnings, rules_of, save_modules
from qatspec.plan.resolve import resolve
from qatspec.plan.results import RECORD_FORMAT
from qatspec.plan.show import plan_data, plan_table
from qatspec.plan.status import StepStatus, status, step_status, with_results

__all__ = [
    "RECORD_FORMAT", "Change", "Difference", "Plan", "PlanDiff", "PluginRef", "Step",
    "StepStatus", "changes", "data_findings", "default_threads", "device_kind", "diff",
    "diff_data", "diff_text", "load_modules", "plan_data", "plan_table", "resolve",
    "rule_warnings", "rules_of", "save_modules", "status", "step_status", "with_keys",
    "with_results",
]  # fmt: skip
