"""What the registry says of plugins."""

from __future__ import annotations

import re
from collections.abc import Sequence

from qatspec import hookspecs
from qatspec.diag import Diagnostic, DiagnosticError, Note, PluginFault
from qatspec.diag.words import nearest
from qatspec.registry.plugins import Plugin, Provider
from qatspec.types import Finding

_WORDS = {"prepare_config": "prepare preset", "qconfig": "qconfig preset", "dataset": "data set"}
_HOOKS = [name for name in vars(hookspecs) if name.startswith("qatspec_")]


def word(kind: str) -> str:
    """What a kind is called."""
    return _WORDS.get(kind, kind.replace("_", " "))


def describe(record: object) -> str:
    """What a hook returned in place of a record."""
    name = getattr(record, "name", None)
    return f"{type(record).__name__} named {name!r}" if name is not None else repr(record)[:80]


def fault(plugin: Provider, error: BaseException, *, hook: str, item: str) -> PluginFault:
    """The fault of a plugin whose record's callable raised, to be raised from `error`."""
    return PluginFault(
        f"{item} raised {type(error).__name__}: {error}",
        origin=f"{plugin.entry_point} ({plugin.dist}=={plugin.version})",
        hook=hook,
        item=item,
    )


def finding(item: Finding, plugin: Plugin) -> Diagnostic:
    """What a plugin's own check found."""
    return Diagnostic(
        code="QS008",
        message=item.message,
        help=item.help,
        at=item.at,
        severity="error" if item.severity == "error" else "warning",
        origin=plugin.origin,
    )


def duplicate(what: str, name: str, plugins: Sequence[Plugin], at: str) -> DiagnosticError:
    """Two plugins register one name."""
    return DiagnosticError(
        Diagnostic(
            code="QS002",
            message=f"two plugins register the {what} `{name}`",
            help="uninstall one of the two",
            at=at,
            notes=tuple(Note(f"registered by {plugin.origin}") for plugin in plugins),
            origin=plugins[0].origin,
        )
    )


def incompatible(plugin: Plugin) -> tuple[str, str] | None:
    """(message, help) where a plugin was written for another version of the hooks."""
    wanted = getattr(plugin.module, "qatspec_api", 1)
    ours = hookspecs.API_VERSION
    if wanted == ours:
        return None
    message = f"plugin `{plugin.entry_point}` is written for plugin API {wanted!r}; "
    message += f"this qatspec has {ours}"
    newer = isinstance(wanted, int) and wanted > ours
    package = "qatspec" if newer else plugin.dist
    return message, f"install a newer `{package}`"


def hook_message(plugin: Plugin, error: Exception) -> str:
    """Why pluggy refuses a plugin, with the hook that its author may have meant."""
    words = re.findall(r"qatspec_[a-z0-9_]+", str(error))
    unknown = next((w for w in words if w not in _HOOKS), None)
    if unknown is None:
        return f"plugin `{plugin.entry_point}`: {error}"
    near = nearest(unknown, _HOOKS)
    mean = f"; did the author mean `{near}`?" if near else ""
    return f"plugin `{plugin.entry_point}` implements `{unknown}`, which is no hook{mean}"
