"""The published test kit of plugin authors: one conformance class, one project fixture.

    # tests/test_conformance.py of a plugin
    import pytest
    import my_plugin.plugin
    from qatspec.testing import PluginConformance

    class TestMyPlugin(PluginConformance):
        @pytest.fixture
        def plugin(self):
            return my_plugin.plugin

Needs pytest: `pip install "qatspec[test]"`. The checks themselves (qatspec.testing.kit) do not:
`qatspec plugins check DIST` runs them as well.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qatspec.testing.conformance import PluginConformance as PluginConformance
    from qatspec.testing.folder import Project as Project, Result as Result, project as project

_HOME = {
    "PluginConformance": "conformance",
    "Project": "folder",
    "Result": "folder",
    "project": "folder",
}
__all__ = ["PluginConformance", "Project", "Result", "project"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'qatspec.testing' has no attribute {name!r}")
    return getattr(importlib.import_module(f"qatspec.testing.{_HOME[name]}"), name)
