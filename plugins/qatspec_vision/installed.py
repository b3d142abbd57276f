"""Optional packages: imported where a spec asks for them."""

from __future__ import annotations

import importlib
import traceback
from typing import Any

from qatspec.api import codes

#: Packages whose code runs when the import of another one fails.
_RUNNING_THE_IMPORT = frozenset({"", "ctypes", "importlib", "qatspec_vision", "torch"})


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
        help=_way_out(why, package),
        at=at,
    ) from why


def _way_out(why: Exception, package: str) -> str:
    """What to install where the import of `package` failed, maybe in a package that it imports."""
    missing = (getattr(why, "name", None) or "torch").partition(".")[0]
    if isinstance(why, ModuleNotFoundError) and missing != "torch":
        return f"pip install {missing}"
    frames = [frame for frame, _ in traceback.walk_tb(why.__traceback__)]
    packages = [frame.f_globals.get("__name__", "").partition(".")[0] for frame in frames]
    imported = [name for name in packages if name not in _RUNNING_THE_IMPORT]
    at_fault = imported[-1] if imported else package
    return f"install the release of {at_fault} that fits the installed torch"
