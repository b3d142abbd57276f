"""The Plan: what a spec compiles to."""

from qatspec.plan.model import Plan, PluginRef, Step

__all__ = ["Plan", "PluginRef", "Step"]
