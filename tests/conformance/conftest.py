"""What the tests of plugins share."""

from pathlib import Path

import pytest


@pytest.fixture
def quickstart():
    """The spec that everything in it is installed for."""
    return Path(__file__).parents[2] / "specs" / "quickstart.yaml"
