"""The published test kit of plugin authors: one conformance class, one project fixture.

    # tests/test_conformance.py of a plugin
    import pytest
    import my_plugin.plugin
    from qatspec.testing import PluginConformance

    class TestMyPlugin(PluginConformance):
        @pytest.fixture
        def plugin(self):
            return my_plugin.plugin

Needs pytest: `pip install "qatspec[test]"`.
"""

from qatspec.testing.conformance import PluginConformance
from qatspec.testing.project import Project, Result, project

__all__ = ["PluginConformance", "Project", "Result", "project"]
