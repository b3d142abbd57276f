"""Plugins in pluggy's manager: calls of their hooks, and their faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pluggy

from qatspec import hookspecs
from qatspec.diag import Code, Diagnostic, Note, Span
from qatspec.diag.codes import QS003, QS004
from qatspec.registry.attribution import last_line
from qatspec.registry.messages import hook_message, incompatible
from qatspec.registry.plugins import FILE, Plugin
from qatspec.registry.renames import missing_name


class Hooks:
    """Plugins by key (the entry point's name, or a file's path). One that is broken in any way has
    faults, as warnings in the order they were met, and disturbs no other."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager("qatspec")
        self._manager.add_hookspecs(hookspecs)
        self.plugins: dict[str, Plugin] = {}
        self.faults: list[Diagnostic] = []

    def add(self, plugin: Plugin, key: str) -> None:
        """Register a plugin; what hinders it becomes a fault: QS001, QS003, QS009."""
        self.plugins[key] = plugin
        if plugin.fault is not None:
            self.faults.append(plugin.fault)
        if plugin.module is None:
            return
        wrong = incompatible(plugin)
        if wrong is not None:
            self.faults.append(wrong)
            return
        try:
            self._manager.register(plugin.module, name=key)
            self._manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            self._manager.unregister(name=key)
            self.add_fault(plugin, QS003, hook_message(plugin, error), "see qatspec/hookspecs.py")

    def remove(self, key: str) -> None:
        """Forget a plugin and its faults."""
        if self._manager.has_plugin(key):
            self._manager.unregister(name=key)
        origin = self.plugins.pop(key).origin
        self.faults = [fault for fault in self.faults if fault.origin != origin]

    def implemented(self, key: str) -> list[str]:
        """Names of the hooks that one plugin implements."""
        plugin = self._manager.get_plugin(key)
        callers = self._manager.get_hookcallers(plugin) if plugin is not None else None
        return sorted(caller.name for caller in callers or ())

    def ask(self, hook: str, **arguments: Any) -> list[tuple[Plugin, list[Any]]]:
        """What each plugin's implementation of a hook returns, by entry point."""
        return [
            (plugin, self._guarded(plugin, hook, call, arguments))
            for plugin, call in self._of(hook)
        ]

    def add_fault(
        self, plugin: Plugin, code: Code, message: str, help_: str, line: Span | None = None
    ) -> None:
        """Note a fault of a plugin. line: of its code, which raised."""
        notes = (Note("raised here", span=line),) if line else ()
        self.faults.append(code.warning(message, help=help_, origin=plugin.origin, notes=notes))

    def _of(self, hook: str) -> list[tuple[Plugin, Callable[..., Any]]]:
        calls = []
        for impl in getattr(self._manager.hook, hook).get_hookimpls():

            def call(impl: Any = impl, **arguments: Any) -> Any:
                # an implementation may take fewer arguments than the hook has
                return impl.function(*(arguments[name] for name in impl.argnames))

            calls.append((self.plugins[impl.plugin_name], call))
        return sorted(calls, key=lambda pair: pair[0].entry_point)

    def _guarded(
        self, plugin: Plugin, hook: str, call: Callable[..., Any], arguments: dict[str, Any]
    ) -> list[Any]:
        """What a hook returned, as a list; what it raised becomes the plugin's fault, QS004."""
        try:
            return list(call(**arguments) or ())
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  code of a plugin
            message = f"plugin `{plugin.entry_point}` raised in `{hook}`: "
            message += f"{type(error).__name__}: {error}"
            row = missing_name(error)
            help_ = f"report it to the authors of `{plugin.dist}`"
            line = None
            if plugin.version == FILE:
                help_, line = "correct the plugin's file", last_line(plugin, error)
            self.add_fault(plugin, QS004, message, str(row) if row else help_, line)
            return []
