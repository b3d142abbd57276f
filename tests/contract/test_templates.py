"""Templates in the package are the specs of the repository."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_quickstart_that_new_writes_is_the_one_in_specs():
    template = ROOT / "qatspec/cli/templates/quickstart.yaml"
    assert template.read_bytes() == (ROOT / "specs/quickstart.yaml").read_bytes(), (
        "cp specs/quickstart.yaml qatspec/cli/templates/"
    )
