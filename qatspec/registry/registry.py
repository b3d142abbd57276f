"""The registry: records of plugins by kind and name, and the plugins that register them."""

from __future__ import annotations

import os.path
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, cast

from qatspec.diag import Diagnostic, DiagnosticError, PluginFault, QatspecError
from qatspec.diag.codes import QS007, QS010
from qatspec.files import how_to_read, open_file, why_unreadable
from qatspec.registry.attribution import (
    is_of_data,
    line_of,
    line_of_function,
    passed_qatspec,
    plugin_fault,
    provider_of,
    raised,
)
from qatspec.registry.hooks import Hooks
from qatspec.registry.messages import finding, not_loaded
from qatspec.registry.plugins import (
    FILE,
    Plugin,
    Provider,
    discover,
    load_file,
    source_sha256,
)
from qatspec.registry.records import KINDS, Entry, Records
from qatspec.types import (
    Arithmetic,
    DatasetDef,
    FusePattern,
    March,
    ModelDef,
    ObserverDef,
    PrepareConfigDef,
    QConfigDef,
    QuantHandler,
    SpecView,
    StageEvent,
)

_CORRECT = (
    "correct it in the plugin: qatspec/types/task.py says what each method takes and returns, and "
    "`qatspec plugins check` tries all of them"
)


class Registry:
    """Plugins and their records. The hook of a kind is called when the kind is first used.

    The fault of a broken plugin is reported when a name is requested that the plugin may provide;
    it does not affect specs that do not need the plugin."""

    def __init__(self, plugins: Iterable[Plugin]) -> None:
        self._hooks = Hooks()
        self._records: dict[str, Records] = {}
        for plugin in plugins:
            self._hooks.add(plugin, plugin.entry_point)

    # -- records ---------------------------------------------------------------------------------

    def model(self, name: str, at: str = "") -> ModelDef:
        """Return the model called `name`, by its name or an alias.

        Raises DiagnosticError at the pointer `at`: QS301 for an unknown name, QS001 where a broken
        plugin may provide it, QS002 for a name of two plugins, QS309 for a chip's name.
        """
        return cast("ModelDef", self._find("model", name, at).record)

    def dataset(self, name: str, at: str = "") -> DatasetDef:
        """Return the data set called `name`. Raises DiagnosticError at `at`, as `model` does."""
        return cast("DatasetDef", self._find("dataset", name, at).record)

    def qconfig(self, name: str, at: str = "") -> QConfigDef:
        """Return the qconfig preset called `name`. Raises DiagnosticError at `at`, as `model`
        does."""
        return cast("QConfigDef", self._find("qconfig", name, at).record)

    def prepare_config(self, name: str, at: str = "") -> PrepareConfigDef:
        """Return the prepare preset called `name`. Raises DiagnosticError at `at`, as `model`
        does."""
        return cast("PrepareConfigDef", self._find("prepare_config", name, at).record)

    def fuse_pattern(self, name: str, at: str = "") -> FusePattern:
        """Return the fuse pattern called `name`. Raises DiagnosticError at `at`, as `model`
        does."""
        return cast("FusePattern", self._find("fuse_pattern", name, at).record)

    def observer(self, name: str, at: str = "") -> ObserverDef:
        """Return the observer called `name`. Raises DiagnosticError at `at`, as `model` does."""
        return cast("ObserverDef", self._find("observer", name, at).record)

    def march(self, name: str, at: str = "") -> March:
        """Return the march called `name`. Raises DiagnosticError at `at`, as `model` does."""
        return cast("March", self._find("march", name, at).record)

    def arithmetic(self, march: str | None) -> Arithmetic:
        """Return the integer arithmetic of `march`; None: the generic one. Raises as `march`
        does."""
        return Arithmetic() if march is None else self.march(march).arithmetic

    def record(self, kind: str, name: str, at: str = "") -> Any:
        """Return the record called `name` of any `kind`. at: pointer of the name in the spec.
        Raises DiagnosticError as the lookups do."""
        return self._find(kind, name, at).record

    def fuse_patterns(self) -> tuple[FusePattern, ...]:
        """Return every fuse pattern, by name. Of two with one name both are here: whoever applies
        one asks `require_undisputed` first."""
        return tuple(entry.record for entry in self._of("fuse_pattern").entries)

    def quant_handlers(self) -> tuple[QuantHandler, ...]:
        """Return every quant handler, by name."""
        return tuple(entry.record for entry in self._of("quant_handler").entries)

    def handler_for(self, op: str) -> QuantHandler | None:
        """Return the handler of a canonical `op` name, None where there is none. Raises
        DiagnosticError QS002 where there are two."""
        entry = self._of("quant_handler").find_op(op)
        return entry.record if entry else None

    def spellings(self) -> Mapping[str, tuple[str, ...]]:
        """Return canonical op -> the public names by which models call it, of every quant handler.
        It is the same object as long as the same plugins take part."""
        return self._of("quant_handler").spellings

    def require_undisputed(self, kind: str, name: str) -> None:
        """Refuse a `name` that two plugins register in `kind`. Raises DiagnosticError QS002."""
        self._of(kind).require_undisputed(name, "")

    def kinds(self, name: str) -> list[str]:
        """Return the kinds in which `name` is registered, as a name or an alias."""
        return [kind for kind in KINDS if name in self._of(kind)]

    def names(self, kind: str) -> list[str]:
        """Return the registered names of `kind` (without aliases), sorted."""
        return self._of(kind).names()

    # -- plugins ---------------------------------------------------------------------------------

    def plugins(self) -> tuple[Plugin, ...]:
        """Return every plugin, broken ones included, by entry point."""
        return tuple(self._hooks.plugins[name] for name in sorted(self._hooks.plugins))

    def plugin_module(self, name: str) -> Any:
        """Return the module of the plugin whose entry point or file, without `.py`, has this name;
        None where there is none."""
        modules = (p.module for p in self.plugins() if Path(p.entry_point).stem == name)
        return next(modules, None)

    def hooks(self, entry_point: str) -> list[str]:
        """Return the names of the hooks that the plugin of `entry_point` implements."""
        return self._hooks.implemented(entry_point)

    def registered(self, entry_point: str) -> dict[str, list[str]]:
        """Return kind -> names that the plugin of `entry_point` registers."""
        by_kind = {
            kind: sorted(
                {
                    e.record.name
                    for e in self._of(kind).entries
                    if e.plugin.entry_point == entry_point
                }
            )
            for kind in KINDS
        }
        return {kind: names for kind, names in by_kind.items() if names}

    def provider(self, kind: str, name: str) -> Provider:
        """Return the plugin that registers `name` in `kind`. Raises DiagnosticError as the
        lookups do."""
        plugin = self._find(kind, name, "").plugin
        return Provider(plugin.entry_point, plugin.dist, plugin.version, source_sha256(plugin))

    def entry_point(self, kind: str, name: str) -> str:
        """Return the entry point, or the file, of the plugin that registers `name` in `kind`.
        Raises DiagnosticError as the lookups do."""
        return self._find(kind, name, "").plugin.entry_point

    def folders(self, entry_points: Collection[str]) -> tuple[tuple[str, str], ...]:
        """Return (entry point, folder) of each of the plugins of `entry_points` that is one
        file."""
        return tuple(
            (plugin.entry_point, str(Path(key).parent))
            for key, plugin in sorted(self._hooks.plugins.items())
            if plugin.version == FILE and plugin.entry_point in entry_points
        )

    def faults(self) -> tuple[Diagnostic, ...]:
        """Return problems of installed plugins as warnings, sorted by plugin. Calls every
        hook."""
        disputes = [dispute for kind in KINDS for dispute in self._of(kind).disputes()]
        faults = dict.fromkeys((*self._hooks.faults, *disputes))
        return tuple(sorted(faults, key=lambda f: f.origin or ""))

    def disputes(self, kind: str) -> tuple[Diagnostic, ...]:
        """Return warnings for whoever takes all records of `kind` (every prepare tries every fuse
        pattern): plugins whose hook failed, and names that two of them register."""
        return self._of(kind).warnings

    @contextmanager
    def attribute_errors(self, record: Any, doing: str) -> Iterator[None]:
        """Attribute what is raised inside to the plugin of `record`, unless it is a diagnostic.

        doing: in words, "opening data set `mine`". Returns a context manager. Raises PluginFault.
        What a record that nobody registers raises passes through.
        """
        try:
            yield
        except QatspecError:
            raise
        except Exception as error:
            hook, plugin = self._hook_and_plugin(record)
            if plugin is not None and not is_of_data(plugin, error):
                raise raised(plugin, error, item=doing, hook=hook) from error
            raise

    @contextmanager
    def attribute_errors_of(self, owner: object, method: str) -> Iterator[None]:
        """Attribute what is raised inside to the plugin that `owner` (a model, a data set) comes
        from, also where the error passed through none of its code (a layer of torch whose sizes do
        not fit), but not where it passed through qatspec's own.

        method: what is called of `owner`. Returns a context manager. Raises PluginFault.
        """
        try:
            yield
        except QatspecError:
            raise
        except Exception as error:
            if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__:
                raise  # wherever it happens, the batch is too large
            if fault := self.plugin_fault(error):
                raise fault from error
            plugin = provider_of(self.plugins(), owner)
            if plugin is None or passed_qatspec(error) or is_of_data(plugin, error):
                raise
            doing = f"{method}() of `{type(owner).__name__}`"
            raise raised(plugin, error, item=doing, span=line_of(owner, method)) from error

    def interface_fault(
        self, message: str, method: str, *, owner: object = None, record: Any = None
    ) -> PluginFault:
        """Return the fault of a plugin whose object or record breaks its interface, QS010.

        message: what is wrong. method: what is missing or returned something wrong, of `owner` (a
        model, a data set) or, without one, of `record`; the fault names the line that defines it.
        """
        hook, provider = self._hook_and_plugin(record)
        plugin = (provider_of(self.plugins(), owner) if owner is not None else None) or provider
        module = type(record if owner is None else owner).__module__
        function = getattr(record, method, None)
        return PluginFault(
            message,
            code=QS010,
            help=_CORRECT,
            origin=plugin.origin if plugin else module,
            hook=hook,
            item=method,
            span=line_of_function(function) if owner is None else line_of(owner, method),
        )

    def plugin_fault(self, error: BaseException) -> PluginFault | None:
        """Return the fault of the plugin whose code `error` came through last, if any: for what
        models and data sets raise long after the record that made them was called."""
        return plugin_fault(self.plugins(), error)

    # -- taking part -----------------------------------------------------------------------------

    def include(self, path: Path, at: str = "") -> None:
        """Open the file plugin at `path`, once; `at` is the pointer that names it. Raises
        DiagnosticError QS007."""
        path = Path(os.path.realpath(path))  # Path.resolve raises where links form a loop
        if str(path) in self._hooks.plugins:
            return
        try:
            open_file(path).close()  # Python's importer waits for a named pipe
        except OSError as error:
            raise QS007.error(
                f"`{path.name}` cannot be loaded: {why_unreadable(error)}",
                help=how_to_read(
                    error, "correct the path in `plugins`, which is relative to the spec"
                ),
                at=at,
            ) from error
        try:
            plugin = load_file(path)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise DiagnosticError(not_loaded(path, error, at)) from error
        self._hooks.add(plugin, str(path))
        self._records.clear()

    @contextmanager
    def added(self, plugin: Plugin) -> Iterator[None]:
        """Let `plugin` take part inside, unless its module does so anyway: what the kit tries need
        not be installed. Returns a context manager."""
        if any(plugin.module is known.module for known in self.plugins()):
            yield
            return
        self._hooks.add(plugin, plugin.entry_point)
        self._records.clear()
        try:
            yield
        finally:
            self._hooks.remove(plugin.entry_point)
            self._records.clear()

    def emit(self, event: StageEvent) -> list[Diagnostic]:
        """Send `event` to every plugin. An exception becomes a fault of its plugin and is not
        raised. Returns the new faults."""
        known = len(self._hooks.faults)
        self._hooks.ask("qatspec_stage_event", event=event)
        return self._hooks.faults[known:]

    def checks(self, spec: SpecView) -> list[Diagnostic]:
        """Return the findings of the plugins' own checks of `spec`. A check that raises gives a
        warning, and so does any hook of a plugin that is one file of a spec."""
        files = {key: p for key, p in self._hooks.plugins.items() if p.version == FILE}
        hooks = {hook for key in files for hook in self._hooks.implemented(key)}
        for kind, (hook, _) in KINDS.items():
            if hook in hooks:
                self._of(kind)
        origins = {plugin.origin for plugin in files.values()}
        of_files = [fault for fault in self._hooks.faults if fault.origin in origins]
        known = len(self._hooks.faults)
        answers = self._hooks.ask("qatspec_check", spec=spec, registry=self)
        diagnostics = [finding(item, plugin) for plugin, findings in answers for item in findings]
        return [*of_files, *self._hooks.faults[known:], *diagnostics]

    def _hook_and_plugin(self, record: Any) -> tuple[str, Plugin | None]:
        """The hook that registers a record, and the plugin that does; "" and None where none."""
        for kind, (hook, record_type) in KINDS.items():
            if isinstance(record, record_type):
                for entry in self._of(kind).entries:
                    if entry.record == record:
                        return hook, entry.plugin
        return "", None

    # -- lookup ----------------------------------------------------------------------------------

    def _of(self, kind: str) -> Records:
        if kind not in self._records:
            self._records[kind] = Records(kind, self._hooks)
        return self._records[kind]

    def _find(self, kind: str, name: str, at: str) -> Entry:
        return self._of(kind).find(name, self._hooks.faults, at)


@cache
def registry() -> Registry:
    """Return the registry of this process, with every installed plugin. It is made once."""
    return Registry(discover())
