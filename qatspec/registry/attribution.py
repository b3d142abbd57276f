"""Attribute errors to plugins, by the code that raised or by the object that is wrong."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Iterable
from types import FrameType
from typing import Any

from qatspec.diag import PluginFault, Span
from qatspec.registry.plugins import FILE, Plugin, package_name
from qatspec.registry.renames import missing_name
from qatspec.source import code_line

_OURS = __name__.partition(".")[0]


def raised(
    plugin: Plugin, error: BaseException, *, item: str, hook: str = "", span: Span | None = None
) -> PluginFault:
    """The fault of a plugin whose code raised, to be raised from `error`.

    item: what was done; span: the place where the error passed through none of the plugin's lines.
    """
    row = missing_name(error)
    return PluginFault(
        f"{item} raised {type(error).__name__}: {error}",
        help=str(row) if row else "",
        origin=plugin.origin,
        hook=hook,
        item=item,
        span=last_line(plugin, error) or span,
    )


def is_of_data(plugin: Plugin, error: BaseException) -> bool:
    """Return whether an error concerns a file that one of qatspec's own plugins read."""
    return plugin.dist == _OURS and isinstance(error, OSError) and error.filename is not None


def plugin_fault(plugins: Iterable[Plugin], error: BaseException) -> PluginFault | None:
    """The fault of the plugin whose code `error` passed through last; None without such a
    plugin."""
    packages = _by_package(plugins)
    fault = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        plugin = packages.get(package_of(frame))
        if plugin is not None and not is_of_data(plugin, error):
            module = str(frame.f_globals["__name__"])
            file = plugin.origin if plugin.version == FILE else module
            where = f"`{frame.f_code.co_name}` in {file} (line {line})"
            fault = raised(plugin, error, item=where)
    return fault


def passed_qatspec(error: BaseException) -> bool:
    """Return whether an error that a context manager caught passed through qatspec's code below
    it."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(package_of(frame) == _OURS for frame in frames[2:])  # the manager, the `with`


def provider_of(plugins: Iterable[Plugin], owner: object) -> Plugin | None:
    """The plugin that defines the class of an object, or the nearest of its base classes."""
    packages = _by_package(plugins)
    for cls in type(owner).__mro__:
        if plugin := packages.get(_top(cls.__module__)):
            return plugin
    return None


def line_of(owner: object, method: str) -> Span | None:
    """The line that defines a method of an object, or the object's class where it has no such
    method; None for what is not written in Python."""
    cls = type(owner)
    definer = next((base for base in cls.__mro__ if method in vars(base)), cls)
    by_plugin = _top(definer.__module__) == _top(cls.__module__)
    return line_of_function(getattr(cls, method, cls) if by_plugin else cls)


def line_of_function(function: Any) -> Span | None:
    """The line that defines a function or class; None for what is not written in Python."""
    try:
        subject = inspect.unwrap(function)
        file = inspect.getsourcefile(subject)
        _, line = inspect.getsourcelines(subject)
    except (OSError, TypeError):
        return None
    return code_line(file, line) if file else None


def package_of(frame: FrameType) -> str:
    """The top-level package (or the one module) whose code a frame runs."""
    return _top(str(frame.f_globals.get("__name__", "")))


def _top(module: str) -> str:
    return module.partition(".")[0]


def _by_package(plugins: Iterable[Plugin]) -> dict[str, Plugin]:
    """Without the records that come with qatspec itself: their errors are qatspec's."""
    by_package = {package_name(plugin): plugin for plugin in plugins}
    by_package.pop(_OURS, None)
    return by_package


def last_line(plugin: Plugin, error: BaseException) -> Span | None:
    """The innermost line of the plugin's code that an exception passed through."""
    span = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        if package_of(frame) == package_name(plugin):
            span = code_line(frame.f_code.co_filename, line)
    return span
