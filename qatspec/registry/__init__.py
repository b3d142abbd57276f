"""Plugins and what they register: found through entry points, looked up by name."""

from qatspec.registry.plugins import Plugin, Provider
from qatspec.registry.records import KINDS
from qatspec.registry.registry import Registry, registry

__all__ = ["KINDS", "Plugin", "Provider", "Registry", "registry"]
