"""prepare: from a float model to a prepared one.

The steps for the whole model stand in `_run`, in order: the model is checked and copied, runs once
on the example inputs where only parts of it are prepared, and each of its units goes through the
passes of `passes.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from qatspec.diag import Collector, Diagnostic, DiagnosticError, grouped
from qatspec.diag.codes import QS506
from qatspec.graph.prepared import Prepared
from qatspec.graph.weights import require_usable
from qatspec.language import default
from qatspec.prepare.capture import capture, capture_root_call, module_at
from qatspec.prepare.configure import overlapping
from qatspec.prepare.copying import copied
from qatspec.prepare.hooks import refused_hooks
from qatspec.prepare.inputs import example_inputs, forward_inputs
from qatspec.prepare.lasting import keep_statistics
from qatspec.prepare.listing import Listing, list_unit
from qatspec.prepare.passes import run_passes
from qatspec.prepare.preconditions import require_module, unusual_modules
from qatspec.prepare.producers import unquantized_inputs
from qatspec.prepare.replacing import Replacements
from qatspec.prepare.spelling import unwritable_names
from qatspec.prepare.stage import set_stage
from qatspec.prepare.unit import Unit
from qatspec.prepare.units import units_of
from qatspec.prepare.unmatched import unmatched_patterns
from qatspec.process import garbage_kept
from qatspec.quant.computed import compute_on_read
from qatspec.registry import registry
from qatspec.spec import check_rules, prepare_config, qconfig_rules
from qatspec.spec.model import ModuleQuant

if TYPE_CHECKING:
    from qatspec.spec import Spec


class Refused(DiagnosticError):
    """A model cannot be prepared, for the reasons in `diagnostics`.

    warnings  what is noteworthy besides, without QS506: refused code may read what is unread here.
    prepared  the model as it is prepared in spite of them, to be searched for further places; None
              where the passes did not finish.
    """

    def __init__(
        self,
        refusals: Collector,
        warnings: Sequence[Diagnostic],
        prepared: Prepared | None = None,
    ) -> None:
        super().__init__(grouped(refusals.diagnostics))
        self.warnings = tuple(w for w in warnings if w.code != QS506)
        self.prepared = prepared


def prepare(
    model: nn.Module,
    example_inputs: Sequence[Any],
    *,
    qconfig: Any,
    prepare: Any = None,
    modules: Mapping[str, Any] | None = None,
    quantize_input: bool = default("module", "quantize_input"),
    quantize_output: bool = default("module", "quantize_output"),
    march: str | None = None,
    inplace: bool = False,
) -> Prepared:
    """Insert fake-quants into a model. Returns a Prepared in stage calibration.

    model           any nn.Module that can be traced; copied unless `inplace`.
    example_inputs  the model's arguments, on the model's device; only shapes and structure count,
                    unless batch norms keep no running statistics: then their numbers, too (QS615).
    qconfig         a preset's name, the spec language's mapping, a QConfig, or QConfigRules.
    prepare         a preset's name, the spec language's mapping, or a PrepareConfig.
    modules         path -> {qconfig, prepare, quantize_input, quantize_output}, or ModuleQuant:
                    prepare these modules only; qconfig and prepare above are their defaults.
    quantize_input, quantize_output: of the whole model, when `modules` is not given.
    march           special cases of a march apply; None: generic.

    Raises DiagnosticError: QS2xx and QS3xx for the configuration; with every place that is found,
    one diagnostic a cause, QS5xx for what cannot be traced and QS6xx for what cannot be quantized
    as asked.
    """
    require_module(model)
    whole_model = ModuleQuant(
        qconfig=qconfig_rules(qconfig),
        prepare=prepare_config(prepare),
        quantize_input=quantize_input,
        quantize_output=quantize_output,
    )
    leaves = (whole_model,) if modules is None else _leaves(modules, whole_model)
    return _prepare(model, example_inputs, leaves, march, (), march, inplace, has_data=True)


def prepare_spec(
    spec: Spec, stage: str, model: nn.Module, *, trained_for: str | None = None
) -> Prepared:
    """Prepare a model as `stage` ("calibration", "qat", ...) of a spec says. The model is copied.

    trained_for: the march whose fused additions hold, None: the spec's. A checkpoint's scales fit
    the fake-quants that its own march asked for.

    Raises DiagnosticError as `prepare` does, with pointers into the spec.
    """
    leaves, march = spec.quantization(stage), spec.march
    examples, scales = _examples(spec, model)
    return _prepare(model, examples, leaves, march, scales, trained_for or march)


def graphs_after(spec: Spec, stage: str, model: nn.Module, last: str) -> tuple[Listing, ...]:
    """Run the passes of prepare up to and including the one named `last`, as `prepare_spec` would.

    Returns the graphs of the units in the order in which they are prepared; the model is copied.
    Raises DiagnosticError as the passes do.
    """
    leaves, march = spec.quantization(stage), spec.march
    examples, scales = _examples(spec, model)
    refusals = Collector()
    with garbage_kept():
        units, _ = _run(model, examples, leaves, march, scales, march, refusals, last=last)
    refusals.raise_if_any()
    return tuple(map(list_unit, units))


def _examples(
    spec: Spec, model: nn.Module
) -> tuple[tuple[torch.Tensor, ...], tuple[float | None, ...]]:
    """Two examples of each input that the spec states, on the model's device, and the fixed scales
    of the inputs. Raises DiagnosticError QS520."""
    require_module(model)
    inputs = forward_inputs(spec, model)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    scales = tuple(given.scale for given in inputs.values())
    return example_inputs(inputs, 2, device), scales


def _leaves(modules: Mapping[str, Any], base: ModuleQuant) -> tuple[ModuleQuant, ...]:
    leaves = []
    for path, entry in modules.items():
        if isinstance(entry, ModuleQuant):
            filled = replace(
                entry,
                qconfig=entry.qconfig or base.qconfig,
                prepare=entry.prepare or base.prepare,
            )
            leaves.append(filled)
            continue
        settings = dict(entry)
        rules = qconfig_rules(settings.pop("qconfig")) if "qconfig" in settings else base.qconfig
        config = prepare_config(settings.pop("prepare")) if "prepare" in settings else base.prepare
        leaves.append(ModuleQuant(path=path, qconfig=rules, prepare=config, **settings))
    return tuple(leaves)


@garbage_kept()
def _prepare(
    model: nn.Module,
    example_inputs: Sequence[Any],
    leaves: Sequence[ModuleQuant],
    march: str | None,
    scales: Sequence[float | None],
    trained_for: str | None,
    inplace: bool = False,
    has_data: bool = False,
) -> Prepared:
    """scales: the fixed scale of each of the model's own inputs, in every unit that takes it; None
    where it is observed. has_data: see `_run`."""
    refusals = Collector()
    units, model = _run(
        model, example_inputs, leaves, march, scales, trained_for, refusals, inplace, has_data
    )
    if refusals and not all(unit.finished for unit in units):
        raise Refused(refusals, [w for unit in units for w in unit.warnings])
    prepared = Prepared(
        model=model,
        decisions={key: d for unit in units for key, d in unit.decisions.items()},
        march=march,
        modules=tuple(leaf.path for leaf in leaves),
        input_scale=_first_scale(units),
        example_inputs=tuple(example_inputs),
        warnings=(
            *registry().disputes("fuse_pattern"),
            *registry().disputes("quant_handler"),
            *(w for unit in units for w in unit.warnings),
            *check_rules((unit.rules, unit.calls) for unit in units),
            *unmatched_patterns(units),
        ),
        quantized_classes={n: c for unit in units for n, c in unit.custom.quantized},
        calls=tuple(call for unit in units for call in unit.calls),
    )
    with refusals.collect():
        require_usable(prepared)
    with refusals.collect():
        set_stage(prepared, "calibration")
    if refusals:
        raise Refused(refusals, prepared.warnings, prepared)
    return prepared


def _first_scale(units: Sequence[Unit]) -> float | None:
    """The first fixed scale of an input."""
    scales = (u.input_scale(0) for u in units if u.quantize_input)
    return next((scale for scale in scales if scale is not None), None)


def _run(
    model: nn.Module,
    example_inputs: Sequence[Any],
    leaves: Sequence[ModuleQuant],
    march: str | None,
    scales: Sequence[float | None],
    trained_for: str | None,
    refusals: Collector,
    inplace: bool = False,
    has_data: bool = False,
    last: str | None = None,
) -> tuple[list[Unit], nn.Module]:
    """Prepare every unit. Returns the units and the model with their modules in it.

    refusals: takes in what cannot be prepared. has_data: the example inputs are data, from which
    batch norms can take statistics. last: the name of the last pass to run; None: all.
    Raises DiagnosticError for what leaves nothing to run the passes on.
    """
    fused_add = registry().arithmetic(trained_for).fused_add
    asked = {}
    refusals.add(overlapping(leaves))
    for leaf in leaves:
        with refusals.collect():
            asked[leaf.path] = module_at(model, leaf.path, leaf.at)
    refusals.add(unusual_modules(asked))
    with refusals.collect():
        refusals.add(unwritable_names(asked))
    refusals.raise_if_any()
    refusals.add(refused_hooks(model))
    model = model if inplace else copied(model)
    for module in model.modules():
        compute_on_read(module)
    told = keep_statistics(model, asked, example_inputs) if has_data else []
    units: list[Unit] = []
    unknown = Collector()
    for leaf in leaves:
        with unknown.collect():
            units += units_of(model, leaf, march, fused_add)
    unknown.raise_if_any()
    paths = [unit.path for unit in units]
    base = paths == [""]
    captured = capture_root_call(example_inputs) if base else capture(model, example_inputs, paths)
    replacements = Replacements(model)
    for unit in units:
        module, call = module_at(model, unit.path), captured.calls[unit.path]
        unit.start(module, call, call.scales(module, example_inputs, scales))
        unit.refusals = refusals
        unit.warnings += told if unit is units[0] else []
        run_passes(unit, last)
        if unit.path and (unit.finished or last):
            replacements.replace(module, unit.module)
        elif not unit.path:
            model = unit.module
    if last is None and not refusals:
        refusals.add(unquantized_inputs(units, captured))
    return units, model
