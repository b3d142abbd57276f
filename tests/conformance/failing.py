"""What the kit finds in a plugin that exists in a test alone."""

from __future__ import annotations

from qatspec.api import API_VERSION, hookimpl
from qatspec.testing.kit import CHECKS, conform


def failing(*checks: str, api: int = API_VERSION, **hooks) -> list[str]:
    """Names of the checks that a plugin with these hooks fails; of `checks`, default: all."""
    body = {f"qatspec_{k}": staticmethod(hookimpl(lambda v=v: v)) for k, v in hooks.items()}
    plugin = type("Broken", (), {**body, "qatspec_api": api})()
    chosen = tuple(c for c in CHECKS if not checks or c.name in checks)
    assert len(chosen) == (len(checks) or len(CHECKS))
    found = conform(plugin, chosen)
    return list(dict.fromkeys(o.check for o in found if o.status == "failed"))
