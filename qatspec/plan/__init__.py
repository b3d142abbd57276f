"""The Plan: what a spec compiles to."""

from qatspec.plan.digest import default_threads, starting_from
from qatspec.plan.model import Plan, PluginRef, Step
from qatspec.plan.resolve import resolve
from qatspec.plan.show import plan_json, plan_table
from qatspec.plan.status import Change, StepStatus, status

__all__ = [
    "Change", "Plan", "PluginRef", "Step", "StepStatus", "default_threads",
    "plan_json", "plan_table", "resolve",
    "starting_from", "status",
]  # fmt: skip
