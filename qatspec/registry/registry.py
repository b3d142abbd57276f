"""The registry: what plugins register, by kind and name, with who provides it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import pluggy

from qatspec import hookspecs
from qatspec.diag import Diagnostic, DiagnosticError, Fix, Note, QatspecError
from qatspec.diag.words import mended, nearest, suggest
from qatspec.registry.messages import (
    describe,
    duplicate,
    fault,
    finding,
    hook_message,
    incompatible,
    word,
)
from qatspec.registry.plugins import Plugin, Provider, discover, load_file, source_sha256
from qatspec.types import (
    DatasetDef,
    FusePattern,
    March,
    ModelDef,
    ObserverDef,
    PrepareConfigDef,
    QConfigDef,
    QuantHandler,
    StageEvent,
)

#: kind -> (hook, record)
KINDS: dict[str, tuple[str, type[Any]]] = {
    "model": ("qatspec_models", ModelDef),
    "dataset": ("qatspec_datasets", DatasetDef),
    "qconfig": ("qatspec_qconfigs", QConfigDef),
    "prepare_config": ("qatspec_prepare_configs", PrepareConfigDef),
    "fuse_pattern": ("qatspec_fuse_patterns", FusePattern),
    "quant_handler": ("qatspec_quant_handlers", QuantHandler),
    "observer": ("qatspec_observers", ObserverDef),
    "march": ("qatspec_marches", March),
}
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class _Entry:
    record: Any
    plugin: Plugin


class Registry:
    """Plugins and what they register. Records are asked for when a kind is first looked at.

    A plugin that is broken in any way is a fault, kept until something is asked for that it may
    have provided; it never disturbs a spec that does not need it.
    """

    def __init__(self, plugins: Iterable[Plugin]) -> None:
        self._manager = pluggy.PluginManager("qatspec")
        self._manager.add_hookspecs(hookspecs)
        self._plugins: dict[str, Plugin] = {}
        self._faults: dict[str, list[Diagnostic]] = {}
        self._kinds: dict[str, dict[str, list[_Entry]]] = {}
        for plugin in plugins:
            self._add(plugin)

    def model(self, name: str, at: str = "") -> ModelDef:
        """Each of these: the record called `name` or one of its aliases. Raises DiagnosticError
        at the pointer `at`: QS301, QS001 (where a broken plugin may provide it), QS002, QS309."""
        return cast("ModelDef", self._lookup("model", name, at).record)

    def dataset(self, name: str, at: str = "") -> DatasetDef:
        return cast("DatasetDef", self._lookup("dataset", name, at).record)

    def qconfig(self, name: str, at: str = "") -> QConfigDef:
        return cast("QConfigDef", self._lookup("qconfig", name, at).record)

    def prepare_config(self, name: str, at: str = "") -> PrepareConfigDef:
        return cast("PrepareConfigDef", self._lookup("prepare_config", name, at).record)

    def observer(self, name: str, at: str = "") -> ObserverDef:
        return cast("ObserverDef", self._lookup("observer", name, at).record)

    def march(self, name: str, at: str = "") -> March:
        return cast("March", self._lookup("march", name, at).record)

    def fuse_patterns(self) -> tuple[FusePattern, ...]:
        """Every fuse pattern, by name. Raises DiagnosticError QS002 on a duplicate name."""
        return self._all("fuse_pattern")

    def quant_handlers(self) -> tuple[QuantHandler, ...]:
        """Every quant handler, by name. Raises DiagnosticError QS002 on a duplicate name."""
        return self._all("quant_handler")

    def handler_for(self, op: str) -> QuantHandler | None:
        """The handler that answers for a canonical op name. Raises DiagnosticError QS002 where two
        do."""
        found = [e for e in self._entries("quant_handler") if op in e.record.ops]
        if len(found) > 1:
            raise duplicate("quant handler for", op, [e.plugin for e in found], "")
        return found[0].record if found else None

    def names(self, kind: str) -> list[str]:
        """Registered names of a kind (without aliases), sorted."""
        return sorted({e.record.name for e in self._entries(kind)})

    def provider(self, kind: str, name: str) -> Provider:
        """Who registers `name`. Raises DiagnosticError as the lookups do."""
        plugin = self._lookup(kind, name, "").plugin
        return Provider(plugin.entry_point, plugin.dist, plugin.version, source_sha256(plugin))

    @contextmanager
    def blame(self, kind: str, name: str, doing: str) -> Iterator[None]:
        """What a record's callable raises inside is its plugin's fault, unless it is a diagnostic.

        doing: in words, "opening data set `mine`". Raises PluginFault."""
        try:
            yield
        except QatspecError:
            raise
        except Exception as error:
            hook = KINDS[kind][0]
            raise fault(self.provider(kind, name), error, hook=hook, item=doing) from error

    def record(self, kind: str, name: str) -> Any:
        """The record of any kind, by name. Raises DiagnosticError as the lookups do."""
        return self._lookup(kind, name, "").record

    def hooks(self, entry_point: str) -> list[str]:
        """Names of the hooks that one plugin implements."""
        plugin = self._manager.get_plugin(entry_point)
        callers = self._manager.get_hookcallers(plugin) if plugin is not None else None
        return sorted(caller.name for caller in callers or ())

    def plugins(self) -> tuple[Plugin, ...]:
        """Every plugin, broken ones included, by entry point."""
        return tuple(self._plugins[name] for name in sorted(self._plugins))

    def registered(self, entry_point: str) -> dict[str, list[str]]:
        """kind -> names that one plugin registers."""
        by_kind = {
            kind: sorted(
                {e.record.name for e in self._entries(kind) if e.plugin.entry_point == entry_point}
            )
            for kind in KINDS
        }
        return {kind: names for kind, names in by_kind.items() if names}

    def faults(self) -> tuple[Diagnostic, ...]:
        """What is wrong with installed plugins, by entry point; asks every hook."""
        for kind in KINDS:
            self._by_name(kind)
        return tuple(fault for name in sorted(self._faults) for fault in self._faults[name])

    def include(self, path: Path, at: str = "") -> None:
        """Load the file plugin at `path`, once. Raises DiagnosticError QS007."""
        path = path.resolve()
        if str(path) in self._plugins:
            return
        try:
            plugin = load_file(path)
        except Exception as error:
            reason = "there is no such file" if isinstance(error, FileNotFoundError) else str(error)
            raise DiagnosticError(
                Diagnostic(
                    code="QS007",
                    message=f"`{path.name}` cannot be loaded: {type(error).__name__}: {reason}",
                    help="paths are relative to the spec; --debug prints the traceback",
                    at=at,
                )
            ) from error
        self._add(plugin, key=str(path))
        self._kinds.clear()

    @contextmanager
    def added(self, plugin: Plugin) -> Iterator[None]:
        """`plugin` takes part inside, unless its module does so anyway: what the kit tries need not
        be installed."""
        if any(plugin.module is known.module for known in self._plugins.values()):
            yield
            return
        self._add(plugin)
        self._kinds.clear()
        try:
            yield
        finally:
            if self._manager.has_plugin(plugin.entry_point):
                self._manager.unregister(name=plugin.entry_point)
            del self._plugins[plugin.entry_point]
            self._faults.pop(plugin.entry_point, None)
            self._kinds.clear()

    def emit(self, event: StageEvent) -> None:
        """Tell every plugin; what one raises becomes its fault and disturbs nobody."""
        for plugin, call in self._implementations("qatspec_stage_event"):
            self._guarded(plugin, "qatspec_stage_event", partial(call, event=event))

    def checks(self, spec: Any) -> list[Diagnostic]:
        """What plugins' own checks find in a spec; a check that raises is a warning."""
        found: list[Diagnostic] = []
        for plugin, call in self._implementations("qatspec_check"):
            before = len(self._faults.get(plugin.entry_point, []))
            asked = partial(call, spec=spec, registry=self)
            findings = self._guarded(plugin, "qatspec_check", asked)
            found.extend(self._faults.get(plugin.entry_point, [])[before:])
            found.extend(finding(item, plugin) for item in findings)
        return found

    # -- loading ---------------------------------------------------------------------------------

    def _add(self, plugin: Plugin, key: str = "") -> None:
        key = key or plugin.entry_point
        self._plugins[key] = plugin
        if plugin.fault is not None:
            self._faults[key] = [plugin.fault]
        if plugin.module is None:
            return
        wrong = incompatible(plugin)
        if wrong is not None:
            self._fault(plugin, "QS009", *wrong)
            return
        try:
            self._manager.register(plugin.module, name=key)
            self._manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            self._manager.unregister(name=key)
            self._fault(plugin, "QS003", hook_message(plugin, error), "see qatspec/hookspecs.py")

    def _implementations(self, hook: str) -> list[tuple[Plugin, Callable[..., Any]]]:
        found = []
        for impl in getattr(self._manager.hook, hook).get_hookimpls():

            def call(impl: Any = impl, **given: Any) -> Any:
                # an implementation may take fewer arguments than the hook has
                return impl.function(*(given[name] for name in impl.argnames))

            found.append((self._plugins[impl.plugin_name], call))
        return sorted(found, key=lambda pair: pair[0].entry_point)

    def _guarded(self, plugin: Plugin, hook: str, call: Callable[[], Any]) -> list[Any]:
        """What a hook returned, as a list; what it raised becomes the plugin's fault."""
        try:
            return list(call() or ())
        except Exception as error:  # noqa: BLE001  somebody else's code
            message = f"plugin `{plugin.entry_point}` raised in `{hook}`: "
            message += f"{type(error).__name__}: {error}"
            self._fault(plugin, "QS004", message, f"report it to the authors of `{plugin.dist}`")
            return []

    def _fault(self, plugin: Plugin, code: str, message: str, help_: str) -> None:
        self._faults.setdefault(plugin.entry_point, []).append(
            Diagnostic(
                code=code, message=message, help=help_, severity="warning", origin=plugin.origin
            )
        )

    # -- lookup ----------------------------------------------------------------------------------

    def _by_name(self, kind: str) -> dict[str, list[_Entry]]:
        """Name or alias -> entries; more than one is a duplicate."""
        if kind not in self._kinds:
            hook, record_type = KINDS[kind]
            table: dict[str, list[_Entry]] = {}
            for plugin, call in self._implementations(hook):
                for record in self._guarded(plugin, hook, call):
                    if not isinstance(record, record_type) or not _NAME.fullmatch(record.name):
                        message = f"`{hook}` of plugin `{plugin.entry_point}` returned "
                        message += f"{describe(record)}"
                        help_ = f"return {record_type.__name__} records with snake_case names"
                        self._fault(plugin, "QS005", message, help_)
                        continue
                    for name in (record.name, *getattr(record, "aliases", ())):
                        table.setdefault(name, []).append(_Entry(record, plugin))
            self._kinds[kind] = table
        return self._kinds[kind]

    def _entries(self, kind: str) -> list[_Entry]:
        return [e for name, es in self._by_name(kind).items() for e in es if e.record.name == name]

    def _all(self, kind: str) -> tuple[Any, ...]:
        table = self._by_name(kind)
        return tuple(self._lookup(kind, name, "").record for name in sorted(table))

    def _lookup(self, kind: str, name: str, at: str) -> _Entry:
        table = self._by_name(kind)
        found = table.get(name, [])
        if len(found) > 1:
            raise duplicate(word(kind), name, [e.plugin for e in found], at)
        if not found:
            raise self._unknown(kind, name, at)
        return found[0]

    def _unknown(self, kind: str, name: str, at: str) -> Exception:
        message = f"no {word(kind)} is called `{name}`"
        names = self.names(kind)
        if kind == "march":
            for entry in self._entries("march"):
                if name.lower() in entry.record.chips:
                    return DiagnosticError(
                        Diagnostic(
                            code="QS309",
                            message=f"`{name}` is a chip, not a march",
                            help=f"did you mean `{entry.record.name}`, the march of {name}?",
                            at=at,
                            fix=Fix(f"`{name}` -> `{entry.record.name}`", text=entry.record.name),
                        )
                    )
        faults = [f for name in sorted(self._faults) for f in self._faults[name]]
        if faults and nearest(name, names, sure=True) is None:
            return DiagnosticError(
                Diagnostic(
                    code=faults[0].code,
                    message=f"{message}, and a plugin that may provide it is broken",
                    help="mend the plugin below; `qatspec plugins list` shows all",
                    at=at,
                    notes=tuple(Note(f"{f.origin}: {f.message}") for f in faults),
                    origin=faults[0].origin,
                )
            )
        advice = suggest(name, names) or "no installed plugin registers any"
        sure = mended(name, names)
        fix = Fix(f"`{name}` -> `{sure}`", text=sure) if sure else None
        return DiagnosticError(
            Diagnostic(code="QS301", message=message, help=advice, at=at, fix=fix)
        )


@cache
def registry() -> Registry:
    """The registry of this process: every installed plugin."""
    return Registry(discover())
