"""`custom_config_dict` of a config as `quantize` and `qconfig` of the spec."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from qatspec.diag import DiagnosticError
from qatspec.hat.draft import Draft, name_of, plain
from qatspec.hat.values import Symbol, Table
from qatspec.registry import registry

#: The preset of a stage where the config names hemat's dictionary for it.
PRESETS = {"calibration": "horizon_calibration", "qat": "horizon_calibrated"}
_KINDS = ("object_type", "module_name_regex", "module_name")
_NAMES = ("non_traceable_module_name", "non_traceable_module_class", "preserved_attributes")
_STANDALONE = {"standalone_module_name": "name", "standalone_module_class": "class"}
_POSITIONS = ("input_quantized_idxs", "output_quantized_idxs")
_CODE = (
    "additional_fuser_method_mapping", "additional_qat_module_mapping",
    "additional_fusion_pattern", "additional_quant_pattern",
    "float_to_observed_custom_module_class", "observed_to_quantized_custom_module_class",
)  # fmt: skip
#: What the tutorial calls hemat's dictionaries of these presets.
_HEMAT = ("calibration_qconfig_dict", "qat_qconfig_dict")
_FAKE_QUANT = re.compile(r"Horizon(\w*?)(Activation|Weight)FakeQuantize")


def module(draft: Draft, stage: str, table: Table) -> dict[str, Any]:
    """A prepared module: `modules`, or qconfig, prepare, quantize_input and quantize_output."""
    modules = table.table("modules")
    if modules:
        return {
            "modules": {
                str(name): module(draft, stage, modules.table(name))
                for name in modules
                if isinstance(modules[name], Table)
            }
        }
    section: dict[str, Any] = {}
    if "qconfig_dict" in table:
        span = table.spans["qconfig_dict"]
        section["qconfig"] = _Rules(draft, stage, span).qconfig(table.take("qconfig_dict"))
    if "prepare_custom_config_dict" in table:
        prepare = _prepare(draft, stage, table, table.take("prepare_custom_config_dict"))
        if prepare is not None:
            section["prepare"] = prepare
    for key in ("quantize_input", "quantize_output"):
        if isinstance(table.get(key), bool) and table.take(key) is False:
            section[key] = False
    return section


class _Rules:
    """The values of one `qconfig_dict`."""

    def __init__(self, draft: Draft, stage: str, span: Any) -> None:
        self._draft, self._stage, self._span = draft, stage, span

    def qconfig(self, value: Any) -> Any:
        """A preset, or rules by kind."""
        if not isinstance(value, Table):
            return self.value(value)
        value.ignore(*value)
        rules: dict[str, Any] = {}
        if "" in value:
            rules[""] = self.value(value[""])
        for kind in _KINDS:
            if listed := list(self._rules(value.get(kind))):
                rules[kind] = dict(listed)
        for key in value:
            if key not in ("", *_KINDS):
                self._draft.leave(
                    f"`{key}` of a `qconfig_dict`", value.spans[key], "it is no kind of rule here",
                    "use `object_type`, `module_name_regex`, `module_name` or "
                    "`module_name_object_type_order`",
                )  # fmt: skip
        return rules[""] if set(rules) == {""} else rules

    def _rules(self, pairs: Any) -> Iterator[tuple[str, Any]]:
        items = pairs.items() if isinstance(pairs, Table) else pairs or ()
        for item in items:
            if item is ...:
                continue  # the tutorial's "and so on"
            name = name_of(item[0]) if isinstance(item, tuple) and len(item) == 2 else None
            if name is None:
                self._draft.leave(
                    f"the rule `{item}`", self._span, "it is no pair of a name and a qconfig",
                    "write it as `name: qconfig` in the spec",
                )  # fmt: skip
                continue
            yield name, self.value(item[1])

    def value(self, value: Any) -> Any:
        """A preset's name, null, or the preset of the stage for what is not known."""
        if value is None:
            return None
        names = [value] if not isinstance(value, Table) else [
            value.take(key) for key in ("activation", "weight")
        ]  # fmt: skip
        known = {preset for name in names if (preset := _preset(name, "qconfig"))}
        if len(known) == 1:
            return known.pop()
        default = PRESETS[self._stage]
        words = " and ".join(f"`{getattr(name, 'text', name)}`" for name in names)
        if not (isinstance(value, Symbol) and value.last in _HEMAT):
            self._draft.leave(
                words, self._span, f"no preset is called so, and `{default}` takes its place",
                "`qatspec plugins list` names the presets; `schemas/README.md` has the keys of a "
                "qconfig of one's own",
            )  # fmt: skip
        return default


def _preset(value: Any, kind: str) -> str | None:
    """The registered name of what a config calls a preset, by its name or an alias."""
    name = value.last if isinstance(value, Symbol) else value if isinstance(value, str) else ""
    if kind == "qconfig" and (match := _FAKE_QUANT.fullmatch(name)):
        name = f"Horizon{match[1]}QConfig"
    records = registry()
    try:
        record = records.qconfig(name) if kind == "qconfig" else records.prepare_config(name)
    except DiagnosticError:
        return None
    return str(record.name)


def _prepare(draft: Draft, stage: str, holder: Table, value: Any) -> Any:
    span = holder.spans["prepare_custom_config_dict"]
    if not isinstance(value, Table):
        preset = _preset(value, "prepare_config")
        if preset is None:
            draft.leave(
                f"`{getattr(value, 'text', value)}`", span, "no preset of prepare is called so",
                "write its keys below `prepare`",
            )  # fmt: skip
        return preset
    section: dict[str, Any] = {}
    value.ignore(*value)
    for key, entry in value.items():
        if key == "**":
            preset = _preset(entry, "prepare_config")
            section.update({"preset": preset} if preset else {})
        elif key in _STANDALONE and entry:
            section[key] = [_standalone(draft, stage, _STANDALONE[key], e, span) for e in entry]
        elif key in _NAMES and entry:
            section[key] = [name for e in entry if (name := name_of(e)) is not None]
        elif key in _POSITIONS and plain(entry):
            section[key] = list(entry)
        elif entry and key in _CODE:
            draft.leave(
                f"`{key}`", value.spans[key], "it names functions and classes of Python",
                "write a plugin that registers a fuse pattern or a quant handler "
                "(`qatspec plugins new NAME --kind fuse` or `--kind handler`), and name it here",
            )  # fmt: skip
        elif entry:
            draft.leave(
                f"`{key}`", value.spans[key], "prepare has no such key",
                "`schemas/README.md` lists the keys of `prepare`",
            )  # fmt: skip
    return section or None


def _standalone(draft: Draft, stage: str, key: str, entry: Any, span: Any) -> dict[str, Any]:
    """(name, qconfig_dict, ..., prepare_custom_config_dict), as torch's FX mode has it."""
    parts = list(entry) if isinstance(entry, tuple) else [entry]
    section: dict[str, Any] = {key: name_of(parts[0]) or str(parts[0])}
    if len(parts) > 1 and parts[1]:
        section["qconfig"] = _Rules(draft, stage, span).qconfig(parts[1])
    return section


def merge(
    by_stage: Mapping[str, dict[str, Any]],
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """(`quantize`, stage -> what the stage says of its own).

    What the stages share stands at the top; one qconfig that all modules of a stage share is the
    stage's. by_stage: `module` of each stage.
    """
    shared = [_without_qconfig(tree) for tree in by_stage.values()]
    same = all(tree == shared[0] for tree in shared)
    stages: dict[str, dict[str, Any]] = {}
    for stage, tree in by_stage.items():
        presets = list(_qconfigs(tree))
        section: dict[str, Any] = {}
        if presets and all(p == presets[0] for p in presets):
            section["qconfig"] = presets[0]
            tree = _without_qconfig(tree)
        if not same or any(True for _ in _qconfigs(tree)):
            section["quantize"] = tree
        stages[stage] = section
    return (shared[0] if shared and same else {}), stages


def _without_qconfig(tree: Mapping[str, Any]) -> dict[str, Any]:
    if "modules" in tree:
        return {"modules": {name: _without_qconfig(t) for name, t in tree["modules"].items()}}
    return {key: value for key, value in tree.items() if key != "qconfig"}


def _qconfigs(tree: Mapping[str, Any]) -> Iterator[Any]:
    if "modules" in tree:
        for inner in tree["modules"].values():
            yield from _qconfigs(inner)
    elif "qconfig" in tree:
        yield tree["qconfig"]
