"""`float_to_observed_custom_module_class`: observed classes for modules of custom float classes."""

from __future__ import annotations

from qatspec.prepare.custom import from_float
from qatspec.prepare.unit import Unit
from qatspec.spec.rules import decide
from qatspec.spec.symbols import symbol


def observe_custom_modules(unit: Unit) -> None:
    """Replace the modules of custom float classes, where a rule quantizes them, by observed ones.
    `unit.observed`: their paths, which tracing does not enter. Modules that
    `additional_quant_pattern` names become ops of the handler that it names."""
    unit.custom.serve(unit.module)
    for path, child in list(unit.module.named_modules()):
        cls = unit.custom.observed_class(child)
        if not path or cls is None:
            continue
        qconfig = decide(
            unit.rules, module=unit.rule_name(path), ops=(symbol(type(child)),)
        ).qconfig
        if qconfig is not None:
            unit.module.set_submodule(path, from_float(cls, child, qconfig))
            unit.observed.append(path)
