"""Plugins and what they register: found through entry points, looked up by name."""

from qatspec.registry.plugins import Plugin as Plugin, Provider as Provider
from qatspec.registry.records import KINDS as KINDS
from qatspec.registry.registry import Registry as Registry, registry as registry
