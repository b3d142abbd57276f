"""What plugins register: records of each kind, by name and alias, with the plugin of each."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from qatspec.diag import Diagnostic, DiagnosticError
from qatspec.diag.codes import QS005
from qatspec.registry.hooks import Hooks
from qatspec.registry.messages import a_chip, describe, disputed, unknown, word
from qatspec.registry.plugins import FILE, Plugin
from qatspec.types import (
    DatasetDef,
    FusePattern,
    March,
    ModelDef,
    ObserverDef,
    PrepareConfig,
    PrepareConfigDef,
    QConfig,
    QConfigDef,
    QuantHandler,
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
#: Fields of records that hold names.
_NAME_LISTS = ("pattern", "ops", "chips", "aliases")
#: How the annotation of a field begins -> what its value is.
_FORMS: Mapping[str, Any] = {
    "str": str, "int": int, "bool": bool, "JSONSchema": Mapping, "Params": Mapping,
    "Mapping": Mapping, "Callable": Callable, "frozenset": frozenset, "QConfig": QConfig,
    "PrepareConfig": PrepareConfig,
}  # fmt: skip
_FOR_OP = "quant handler for"
#: Kinds of which a spec chooses one by its name.
_CHOSEN = frozenset({"model", "dataset", "qconfig", "prepare_config", "observer", "march"})


@dataclass(frozen=True, slots=True)
class Entry:
    """A record and the plugin that registers it."""

    record: Any
    plugin: Plugin


class Records:
    """The records of one kind. Hooks are asked when it is made.

    spellings: of quant handlers, canonical op -> the public names by which models call it.
    warnings: what may be missing or is disputed, as warnings: faults met while the hook was asked,
    names that two plugins register, and ops that two handlers answer for.
    """

    def __init__(self, kind: str, hooks: Hooks) -> None:
        self.kind = kind
        hook, record_type = KINDS[kind]
        known = len(hooks.faults)
        self._by_name: dict[str, list[Entry]] = defaultdict(list)
        self._by_op: dict[str, list[Entry]] = defaultdict(list)
        self.entries: list[Entry] = []
        for plugin, answers in hooks.ask(hook):
            for record in answers:
                is_record = isinstance(record, record_type)
                wrong = _wrong_field(record) if is_record else None
                if is_record and wrong is None and _is_sound(record):
                    self._keep(Entry(record, plugin))
                    continue
                message = f"`{hook}` of plugin `{plugin.entry_point}` returned {describe(record)}"
                message += f", whose {wrong}" if wrong else ""
                help_ = f"return {record_type.__name__} records with snake_case names"
                lists = [name for name in _NAME_LISTS if hasattr(record, name)]
                help_ += "".join(f", `{name}` a tuple of names" for name in lists)
                hooks.add_fault(plugin, QS005, message, help_)
        self.spellings: Mapping[str, tuple[str, ...]] = {
            op: tuple(names) for entry in self.entries for op, names in _spellings(entry.record)
        }
        self.entries.sort(key=lambda entry: (entry.record.name, entry.plugin.entry_point))
        self.warnings: tuple[Diagnostic, ...] = (*hooks.faults[known:], *self.disputes())

    def _keep(self, entry: Entry) -> None:
        self.entries.append(entry)
        for name in (entry.record.name, *getattr(entry.record, "aliases", ())):
            self._by_name[name].append(entry)
        for op in getattr(entry.record, "ops", ()):
            self._by_op[op].append(entry)

    def find(self, name: str, faults: list[Diagnostic], at: str) -> Entry:
        """The entry of a name or alias; `faults` may be why there is none. Raises DiagnosticError:
        QS301, QS001 and the like, QS002, QS309."""
        self.require_undisputed(name, at)
        if entries := self._claims(name):
            return entries[0]
        if self.kind == "march":
            for entry in self.entries:
                if name.lower() in entry.record.chips:
                    raise DiagnosticError(a_chip(name, entry.record.name, at))
        raise DiagnosticError(unknown(self.kind, name, self.names(), faults, at))

    def require_undisputed(self, name: str, at: str) -> None:
        """Raises DiagnosticError QS002 where two plugins register `name`."""
        entries = self._claims(name)
        if len(entries) > 1:
            raise DiagnosticError(disputed(word(self.kind), name, [e.plugin for e in entries], at))

    def _claims(self, name: str) -> list[Entry]:
        """The entries of a name or alias. What the spec's own file registers replaces what an
        installed package registers under the same name, so that a new name in a later version of a
        package breaks no spec."""
        entries = self._by_name.get(name, [])
        of_spec = [e for e in entries if e.plugin.version == FILE] if self.kind in _CHOSEN else []
        return of_spec or entries

    def find_op(self, op: str) -> Entry | None:
        """The quant handler of a canonical op. Raises DiagnosticError QS002 where two answer."""
        entries = self._by_op.get(op, [])
        if len(entries) > 1:
            raise DiagnosticError(disputed(_FOR_OP, op, [e.plugin for e in entries], ""))
        return entries[0] if entries else None

    def __contains__(self, name: str) -> bool:
        return bool(self._by_name.get(name))

    def names(self) -> list[str]:
        """Names, without aliases, sorted."""
        return sorted({entry.record.name for entry in self.entries})

    def disputes(self) -> list[Diagnostic]:
        """A warning for each name, alias and op that two plugins claim."""
        claims = [(word(self.kind), name, self._claims(name)) for name in sorted(self._by_name)]
        claims += [(_FOR_OP, op, entries) for op, entries in sorted(self._by_op.items())]
        return [
            disputed(what, name, [e.plugin for e in entries], None, severity="warning")
            for what, name, entries in claims
            if len(entries) > 1
        ]


def _wrong_field(record: Any) -> str | None:
    """Words for the first field whose value has another type than the record says."""
    for field in fields(record):
        value, form = getattr(record, field.name), str(field.type)
        expected = next((e for start, e in _FORMS.items() if form.startswith(start)), None)
        if expected is None or (value is None and form.endswith("| None")):
            continue
        if not (callable(value) if expected is Callable else isinstance(value, expected)):
            return f"`{field.name}` is of type {type(value).__name__}, not {form}"
    return None


def _is_sound(record: Any) -> bool:
    """Return whether the name and the lists of names of a record are valid for lookups."""
    lists = [getattr(record, name) for name in _NAME_LISTS if hasattr(record, name)]
    spellings = getattr(record, "spellings", {})
    lists += spellings.values() if isinstance(spellings, Mapping) else [None]
    names = all(isinstance(x, tuple | list) and all(isinstance(n, str) for n in x) for x in lists)
    chain = getattr(record, "pattern", ("any",))
    return (
        bool(names and chain)
        and isinstance(record.name, str)
        and bool(_NAME.fullmatch(record.name))
    )


def _spellings(record: Any) -> Iterator[tuple[str, Sequence[str]]]:
    """(op, the public names by which models call it) of a handler. An op with a qualified name,
    "torch.nn.Mish", is that class or function, where the handler spells it in no other way."""
    spellings = getattr(record, "spellings", {})
    yield from spellings.items()
    for op in getattr(record, "ops", ()):
        if "." in op and op not in spellings:
            yield op, (op,)
