"""The kit on the plugins that come with qatspec: they get no door that a third party lacks."""

import importlib

import pytest

from qatspec.testing import PluginConformance

MODULES = (
    "qatspec.quant.plugin",
    "qatspec.prepare.plugin",
    "qatspec.ops.plugin",
    "qatspec_vision.plugin",
    "qatspec_horizon.plugin",
    "qatspec_litert.plugin",
    "qatspec_onnxruntime.plugin",
    "qatspec_openvino.plugin",
    "qatspec_qnn.plugin",
    "qatspec_demo.plugin",
    "qatspec_trackers.plugin",
)


@pytest.mark.parametrize("module", MODULES, indirect=True)
class TestFirstParty(PluginConformance):
    @pytest.fixture
    def module(self, request):
        return importlib.import_module(request.param)

    @pytest.fixture
    def plugin(self, module):
        return module
