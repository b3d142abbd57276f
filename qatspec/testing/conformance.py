"""What must hold of every plugin, as one pytest class."""

from __future__ import annotations

import pytest

from qatspec.testing.kit import CHECKS, Check, conform


class PluginConformance:
    """Subclass it and give one fixture, `plugin`: the module of your entry point.

    Every check of the kit is a test; a check that finds nothing to look at, because the plugin
    registers none of its kind, is skipped with the reason.
    """

    @pytest.fixture
    def plugin(self) -> object:
        """The module (or object) that holds the hook implementations."""
        raise pytest.UsageError("give the fixture `plugin`: the module of your entry point")

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
    def test_conforms(self, plugin: object, check: Check) -> None:
        """Each failing record with its reason."""
        outcomes = conform(plugin, (check,))
        failed = [f"{o.item}: {o.reason}" for o in outcomes if o.status == "failed"]
        assert not failed, "\n".join((check.name, *failed))
        if not any(o.status == "passed" for o in outcomes):
            reasons = [f"{o.item}: {o.reason}" for o in outcomes]
            pytest.skip("; ".join(reasons) or f"it registers no {check.kind}")
