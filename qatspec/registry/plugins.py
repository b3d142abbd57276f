"""Loaded plugins: the origin of each, and its fault if it cannot be loaded."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from qatspec.diag import Diagnostic
from qatspec.diag.codes import QS001
from qatspec.files import content_digest
from qatspec.registry.recorder import watch
from qatspec.registry.renames import missing_name, outdated, uses_of_old_names

GROUP = "qatspec"
_OURS = "qatspec"  # the distribution of qatspec itself
_PAGES = (".md", ".rst")
FILE = "file"  # the version of a plugin that is one file of a spec


@dataclass(frozen=True, slots=True)
class Plugin:
    """One entry point of the group `qatspec`, or one file that a spec names.

    module is None where it could not be loaded; fault then says why, as a diagnostic.
    """

    entry_point: str
    dist: str
    version: str
    module: object | None
    fault: Diagnostic | None = None

    @property
    def origin(self) -> str:
        """The plugin in messages: "vision (qatspec==0.1.0)"; the name of a file plugin."""
        if self.version == FILE:
            return self.entry_point
        return f"{self.entry_point} ({self.dist}=={self.version})"


@dataclass(frozen=True, slots=True)
class Provider:
    """Who registers a thing. source_sha256 covers the code and the data of its package; of a file
    plugin that one file."""

    entry_point: str
    dist: str
    version: str
    source_sha256: str


#: How the names of the modules of file plugins begin; the rest is a digest of the path.
FILE_MODULE = "qatspec_file_"


def discover() -> list[Plugin]:
    """Every installed plugin, by name of its entry point. One that fails to import has a fault."""
    entries = importlib.metadata.entry_points(group=GROUP)
    return [load_entry_point(entry) for entry in sorted(entries)]


def load_file(path: Path) -> Plugin:
    """The plugin in one Python file. What it imports and opens below its folder is recorded from
    now on. Import errors pass through."""
    watch(path)
    name = f"{FILE_MODULE}{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles of the file look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return Plugin(path.name, path.name, FILE, module)


def load_entry_point(entry: importlib.metadata.EntryPoint) -> Plugin:
    """The plugin at an entry point; where it cannot be imported, a plugin with a fault.

    Raises DiagnosticError QS001 for a module of qatspec itself that is not there: the entry points
    are those of another version, and whole kinds of records may be missing.
    """
    dist = entry.dist.name if entry.dist else "unknown"
    version = entry.dist.version if entry.dist else "unknown"
    try:
        return Plugin(entry.name, dist, version, entry.load())
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if dist == _OURS and isinstance(error, ModuleNotFoundError) and _is_of(entry, error.name):
            raise QS001.error(
                f"the installed list of plugins names `{error.name}`, which this version of "
                "qatspec does not have",
                help="install qatspec again: `pip install -e .` in its folder, or "
                "`pip install --force-reinstall qatspec`",
            ) from error
        origin = f"{entry.name} ({dist}=={version})"
        message = f"plugin `{entry.name}` cannot be loaded: {type(error).__name__}: {error}"
        fault = QS001.diagnostic(
            message, help=f"fix or uninstall `{dist}`; --debug prints the traceback", origin=origin
        )
        if row := missing_name(error):
            sources = _unloaded_sources(entry.module.partition(".")[0])
            uses = uses_of_old_names(sources, row.version) or [row]
            fault = outdated(message, uses, origin=origin, severity="error")
        return Plugin(entry.name, dist, version, None, fault)


def _is_of(entry: importlib.metadata.EntryPoint, missing: str | None) -> bool:
    """Return whether a missing module is that of the entry point, or a package that holds it."""
    return missing is not None and f"{entry.module}.".startswith(f"{missing}.")


def package_name(plugin: Plugin) -> str:
    """The top-level package (or the one module) that the plugin's code lives in."""
    name: str = getattr(plugin.module, "__name__", type(plugin.module).__module__)
    return name.partition(".")[0]


def source_sha256(plugin: Plugin) -> str:
    """The hash of the plugin's sources: its top-level package; or its one file, whose other inputs
    are recorded when a step runs (qatspec.registry.recorder)."""
    package = package_of(plugin)
    return hash_sources(package) if package else ""


def package_of(plugin: Plugin) -> ModuleType | None:
    """The imported top-level package (or the one module) of a plugin."""
    package = sys.modules.get(package_name(plugin))
    return package if isinstance(package, ModuleType) else None


def source_files(package: ModuleType | None) -> list[Path]:
    """The Python files of a package, or the file of a module that is no package."""
    if package is None:
        return []
    return _python_files(list(getattr(package, "__path__", [])), package.__file__)


def _unloaded_sources(package: str) -> list[Path]:
    """The Python files of a top-level package that raised while it was imported."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        return []
    return _python_files(list(spec.submodule_search_locations or []), spec.origin)


def _python_files(folders: list[str], file: str | None) -> list[Path]:
    if not folders:
        return [Path(file)] if file else []
    return sorted(path for folder in folders for path in Path(folder).rglob("*.py"))


@cache
def hash_sources(package: ModuleType) -> str:
    """sha256 over the names and contents of the code and the data of a package, the same in a
    checkout and where its wheel is installed; of a module that is no package, over its file."""
    roots = [Path(p) for p in getattr(package, "__path__", [])]
    if not roots:
        return content_digest({"": str(package.__file__)})
    named = {
        f"{number}/{path.relative_to(root).as_posix()}": path
        for number, root in enumerate(roots)
        for path in root.rglob("*")
        if path.is_file() and _computes(path)
    }
    return content_digest(named)


def _computes(path: Path) -> bool:
    """Return whether results can depend on a file of a package. Compiled Python and hidden files
    are none of its sources; pages for readers, which a wheel often lacks, change no result."""
    return not (
        "__pycache__" in path.parts or path.name.startswith(".") or path.suffix.lower() in _PAGES
    )
