"""A callable named by where it lives, imported when it is first called.

Records of plugins hold these, so that loading a plugin imports no torch.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Lazy:
    """`Lazy("package.module:attribute")`; calling it imports the module and calls the attribute.

    first: arguments that are passed before those of the call.
    """

    target: str
    first: tuple[Any, ...] = ()

    def resolve(self) -> Any:
        """Import and return the attribute. Raises ImportError or AttributeError as Python does."""
        module, _, attribute = self.target.partition(":")
        return getattr(importlib.import_module(module), attribute)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.resolve()(*self.first, *args, **kwargs)


def lazy(target: str, *first: Any) -> Lazy:
    """Name a callable without importing it: `lazy("my_plugin.model:build")`.

    target  "module:attribute", imported at the first call.
    first   arguments that are passed before those of each call.

    Returns a callable.
    """
    return Lazy(target, first)
