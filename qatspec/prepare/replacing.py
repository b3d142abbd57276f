"""Replacing submodules: a module may be registered under several paths."""

from __future__ import annotations

from torch import nn


class Replacements:
    """Replaces submodules of `root` by others, wherever they are registered.

    The paths are collected once, so that each replacement costs as much in a large model as in a
    small one. Until the last replacement, nobody else may register or remove a module of `root`.
    """

    def __init__(self, root: nn.Module) -> None:
        self._root = root
        self._paths: dict[int, list[str]] = {}  # by identity: a class may define `==` anew
        for path, module in root.named_modules(remove_duplicate=False):
            self._paths.setdefault(id(module), []).append(path)

    def replace(self, old: nn.Module, new: nn.Module) -> None:
        """Put `new` at every path of `old`, a submodule of the root."""
        paths = self._paths.pop(id(old))
        for path in paths:
            self._root.set_submodule(path, new)
        self._paths[id(new)] = paths
