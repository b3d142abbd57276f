"""The units of a model: the modules that are prepared, each as `Unit` describes it."""

from __future__ import annotations

from torch import nn

from qatspec.prepare.capture import module_at
from qatspec.prepare.configure import standalone_modules
from qatspec.prepare.custom import Custom
from qatspec.prepare.unit import Unit, join
from qatspec.spec import prepare_config, qconfig_rules
from qatspec.spec.model import ModuleQuant
from qatspec.spec.rules import decide
from qatspec.types import PrepareConfig


def units_of(model: nn.Module, leaf: ModuleQuant, march: str | None, fused_add: bool) -> list[Unit]:
    """The unit of `leaf`, behind those of the standalone modules inside it.

    Raises DiagnosticError: QS505 for a module that does not exist, QS602 for code that is not
    found.
    """
    assert leaf.qconfig is not None
    config = leaf.prepare or PrepareConfig()
    module = module_at(model, leaf.path, leaf.at)
    standalone = standalone_modules(module, config)
    units = []
    for path, item in standalone.items():
        absolute = join(leaf.path, path)
        outer = decide(leaf.qconfig, module=path, ops=())
        has_rules = item.qconfig is not None
        inner = prepare_config(item.prepare)
        units.append(
            Unit(
                path=absolute,
                rule_path=absolute if has_rules else leaf.path,
                rules=qconfig_rules(item.qconfig) if has_rules else leaf.qconfig,
                config=inner,
                quantize_input=outer.qconfig is None,
                quantize_output=True,
                custom=Custom.of(inner, item.at),
                march=march if inner.march_preset else None,
                fused_add=fused_add,
                at=item.at,
                inner=True,
            )
        )
    units.append(
        Unit(
            path=leaf.path,
            rule_path=leaf.path,
            rules=leaf.qconfig,
            config=config,
            quantize_input=leaf.quantize_input,
            quantize_output=leaf.quantize_output,
            custom=Custom.of(config, leaf.at),
            march=march if config.march_preset else None,
            fused_add=fused_add,
            at=leaf.at,
            standalone=frozenset(standalone),
        )
    )
    return units
