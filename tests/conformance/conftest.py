"""What the tests of plugins share."""

from pathlib import Path

import pytest


@pytest.fixture
def quickstart():
    """The spec that everything in it is installed for."""
    return Path(__file__).parents[2] / "specs" / "quickstart.yaml"


#: Checks that OpenVINO's compiler takes two minutes for; tests/unit/openvino has some of its own.
LONG = ("march_supports_what_it_compiles", "march_same_program_same_bytes")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if any(f"[{check}-qatspec_openvino.plugin]" in item.nodeid for check in LONG):
            item.add_marker(pytest.mark.full)
