"""Optional packages: imported where a spec asks for them."""

from __future__ import annotations

import importlib
from typing import Any

from qatspec.api import codes


def library(module: str, used_for: str, at: str | None = None) -> Any:
    """Import a module of an optional package.

    used_for: what needs it, in words. at: the place in the spec that asks for it.
    Raises DiagnosticError: QS915 where the package is not installed, QS917 where it cannot be
    imported, as a torchvision that was built for another torch.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] == package:
            raise codes.QS915.error(
                f"{used_for} need the package `{package}`", help=f"pip install {package}", at=at
            ) from None
        why: Exception = error
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        why = error
    raise codes.QS917.error(
        f"the installed `{package}` cannot be imported: {why}",
        help=f"install the release of {package} that fits the installed torch",
        at=at,
    ) from why
