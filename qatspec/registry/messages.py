"""Diagnostics about plugins."""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence
from pathlib import Path

from qatspec import hookspecs
from qatspec.diag import Diagnostic, Fix, Note, Severity
from qatspec.diag.codes import QS002, QS007, QS008, QS009, QS301, QS309
from qatspec.diag.words import nearest, suggest, sure_correction
from qatspec.registry.plugins import FILE, Plugin, package_of, source_files
from qatspec.registry.renames import RENAMED, missing_name, outdated, uses_of_old_names
from qatspec.source import code_line
from qatspec.types import Finding

_WORDS = {"prepare_config": "prepare preset", "qconfig": "qconfig preset", "dataset": "data set"}
_HOOKS = [name for name in vars(hookspecs) if name.startswith("qatspec_")]


def word(kind: str) -> str:
    """The name of a kind of record in messages."""
    return _WORDS.get(kind, kind.replace("_", " "))


def describe(record: object) -> str:
    """Describe an object that a hook returned instead of a record."""
    try:
        name = getattr(record, "name", None)
        return f"{type(record).__name__} named {name!r}" if name is not None else repr(record)[:80]
    except Exception:  # noqa: BLE001  an object of a plugin does anything
        return f"a {type(record).__name__}"


def not_loaded(path: Path, error: BaseException, at: str) -> Diagnostic:
    """A file plugin raised while it was imported: QS007, with the line; QS009 where it imported a
    name of `qatspec.api` that was renamed."""
    message = f"`{path.name}` cannot be loaded: {type(error).__name__}: {error}"
    if row := missing_name(error):
        uses = uses_of_old_names([path], row.version) or [row]
        return outdated(message, uses, origin=path.name, severity="error", at=at)
    lines = [
        code_line(str(path), line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename == str(path)
    ]
    if isinstance(error, SyntaxError) and error.filename == str(path) and error.lineno:
        lines.append(code_line(str(path), error.lineno))
    advice = "correct the plugin's file"
    if isinstance(error, ModuleNotFoundError):
        advice = f"install `{error.name}` in this environment, or correct its name in the file"
    return QS007.diagnostic(
        message,
        help=f"{advice}; --debug prints the traceback",
        at=at,
        notes=tuple(Note("raised here", span=line) for line in lines[-1:]),
        origin=path.name,
    )


def finding(item: Finding, plugin: Plugin) -> Diagnostic:
    """The diagnostic for a finding of a plugin's own check."""
    return QS008.diagnostic(
        item.message,
        help=item.help,
        at=item.at,
        severity="error" if item.severity == "error" else "warning",
        origin=plugin.origin,
    )


def disputed(
    what: str, name: str, plugins: Sequence[Plugin], at: str | None, severity: Severity = "error"
) -> Diagnostic:
    """Two plugins register one name."""
    files = [plugin.entry_point for plugin in plugins if plugin.version == FILE]
    return QS002.diagnostic(
        f"two plugins register the {what} `{name}`",
        help=f"remove it from `{files[0]}`" if files else "uninstall one of the two",
        at=at,
        severity=severity,
        notes=tuple(Note(f"registered by {plugin.origin}") for plugin in plugins),
        origin=plugins[0].origin,
    )


def a_chip(name: str, march: str, at: str) -> Diagnostic:
    """The diagnostic for the name of a chip in place of a march."""
    return QS309.diagnostic(
        f"`{name}` is a chip; a march is the architecture of its accelerator",
        help=f"write `{march}`, the march of {name}",
        at=at,
        fix=Fix(f"`{name}` -> `{march}`", text=march),
    )


def unknown(
    kind: str, name: str, names: Sequence[str], faults: Sequence[Diagnostic], at: str
) -> Diagnostic:
    """Nobody registers `name`; faults: those of plugins that may have."""
    message = f"no {word(kind)} is called `{name}`"
    faults = sorted(faults, key=lambda f: f.origin or "")
    if faults and nearest(name, names, sure=True) is None:
        return faults[0].code.diagnostic(
            f"{message}, and a plugin that may provide it is broken",
            help="fix the plugin below; `qatspec plugins list` shows all",
            at=at,
            notes=tuple(
                note for f in faults for note in (Note(f"{f.origin}: {f.message}"), *f.notes)
            ),
            origin=faults[0].origin,
        )
    sure = sure_correction(name, names)
    return QS301.diagnostic(
        message,
        help=suggest(name, names) or "no installed plugin registers any",
        at=at,
        fix=Fix(f"`{name}` -> `{sure}`", text=sure) if sure else None,
    )


def incompatible(plugin: Plugin) -> Diagnostic | None:
    """The fault of a plugin that was written for another version of the plugin API, QS009.

    A plugin of a version in `RENAMED` is compatible as long as it uses no renamed name.
    """
    ours = hookspecs.API_VERSION
    wanted = getattr(plugin.module, "qatspec_api", ours)
    if wanted == ours:
        return None
    message = f"plugin `{plugin.entry_point}` is written for plugin API {wanted!r}; "
    message += f"this qatspec has {ours}"
    if isinstance(wanted, int) and wanted in RENAMED:
        uses = uses_of_old_names(source_files(package_of(plugin)), wanted)
        if not uses:
            return None
        return outdated(message, uses, origin=plugin.origin, severity="warning")
    newer = isinstance(wanted, int) and wanted > ours
    return QS009.warning(
        message,
        help=f"install a newer `{'qatspec' if newer else plugin.dist}`",
        origin=plugin.origin,
    )


def hook_message(plugin: Plugin, error: Exception) -> str:
    """Why pluggy refuses a plugin, with the hook that its author may have meant."""
    words = re.findall(r"qatspec_[a-z0-9_]+", str(error))
    unknown = next((w for w in words if w not in _HOOKS), None)
    if unknown is None:
        return f"plugin `{plugin.entry_point}`: {error}"
    near = nearest(unknown, _HOOKS)
    mean = f"; did the author mean `{near}`?" if near else ""
    return f"plugin `{plugin.entry_point}` implements `{unknown}`, which is not a hook{mean}"
