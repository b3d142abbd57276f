"""prepare, read top to bottom: trace, resolve, fuse, annotate, insert, swap, verify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from qatspec.graph.context import GraphContext
from qatspec.graph.prepared import Prepared
from qatspec.graph.weights import require_usable
from qatspec.prepare.annotate import annotate
from qatspec.prepare.capture import Capture, capture, module_at, whole
from qatspec.prepare.configure import overlapping, standalone_modules
from qatspec.prepare.copying import copied
from qatspec.prepare.custom import Custom, apply_fusers, observe_custom
from qatspec.prepare.dead import drop_dead
from qatspec.prepare.extremes import check_extremes
from qatspec.prepare.fuse import fuse
from qatspec.prepare.hooks import refused_hooks
from qatspec.prepare.insert import insert
from qatspec.prepare.preconditions import require_module, unusual_modules
from qatspec.prepare.resolve import resolve
from qatspec.prepare.stage import set_stage
from qatspec.prepare.swap import swap
from qatspec.prepare.tracing import trace_module
from qatspec.prepare.unit import Unit, join, replace_module
from qatspec.prepare.verify import raise_if_any, verify_inputs, verify_unit
from qatspec.quant.computed import compute_on_read
from qatspec.registry import registry
from qatspec.spec import check_rules, prepare_config, qconfig_rules
from qatspec.spec.model import ModuleQuant, QConfigRules
from qatspec.spec.rules import decide
from qatspec.spec.symbols import symbol
from qatspec.types import PrepareConfig, QConfig

if TYPE_CHECKING:
    from qatspec.spec import Spec


def prepare(
    model: nn.Module,
    example_inputs: Sequence[Any],
    *,
    qconfig: Any,
    prepare: Any = None,
    modules: Mapping[str, Any] | None = None,
    quantize_input: bool = True,
    quantize_output: bool = True,
    march: str | None = None,
    inplace: bool = False,
) -> Prepared:
    """Put fake-quants into a model. Returns a Prepared in its calibration stage.

    model           any nn.Module that can be traced; copied unless `inplace`.
    example_inputs  the model's arguments, on the model's device; only shapes and structure count.
    qconfig         a preset's name, the spec language's mapping, a QConfig, or QConfigRules.
    prepare         a preset's name, the spec language's mapping, or a PrepareConfig.
    modules         path -> {qconfig, prepare, quantize_input, quantize_output}, or ModuleQuant:
                    prepare these modules only; qconfig and prepare above are their defaults.
    quantize_input, quantize_output: of the whole model, when `modules` is not given.
    march           special cases of a march apply; None: generic.

    Raises DiagnosticError: QS2xx and QS3xx for the configuration, QS5xx for what cannot be traced,
    QS6xx for what cannot be quantized as asked.
    """
    require_module(model)
    default = ModuleQuant(
        qconfig=qconfig_rules(qconfig),
        prepare=prepare_config(prepare),
        quantize_input=quantize_input,
        quantize_output=quantize_output,
    )
    leaves = (default,) if modules is None else _leaves(modules, default)
    return _prepare(model, example_inputs, leaves, march, None, march, inplace)


def prepare_spec(
    spec: Spec, stage: str, model: nn.Module, *, trained_for: str | None = None
) -> Prepared:
    """Prepare a spec's model as `stage` ("calibration", "qat", ...) has it; the model is copied.

    trained_for: the march whose fused additions hold, None: the spec's. A checkpoint's scales fit
    the fake-quants that its own march asked for.

    Raises DiagnosticError as `prepare` does, with pointers into the spec.
    """
    require_module(model)
    height, width = spec.input.size
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    image = torch.zeros(2, spec.input.channels, height, width, device=device)
    leaves = spec.quantization(stage)
    march = spec.march
    return _prepare(model, (image,), leaves, march, spec.input.scale, trained_for or march)


def _leaves(modules: Mapping[str, Any], default: ModuleQuant) -> tuple[ModuleQuant, ...]:
    found = []
    for path, given in modules.items():
        if isinstance(given, ModuleQuant):
            filled = replace(
                given,
                qconfig=given.qconfig or default.qconfig,
                prepare=given.prepare or default.prepare,
            )
            found.append(filled)
            continue
        settings = dict(given)
        rules = qconfig_rules(settings.pop("qconfig")) if "qconfig" in settings else default.qconfig
        config = (
            prepare_config(settings.pop("prepare")) if "prepare" in settings else default.prepare
        )
        found.append(ModuleQuant(path=path, qconfig=rules, prepare=config, **settings))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Job:
    """A unit to be: where it is, how it is quantized, whose rule names it uses."""

    path: str
    rule_path: str
    rules: QConfigRules
    config: PrepareConfig
    quantize_input: bool
    quantize_output: bool
    at: str
    inner: bool = False
    standalone: tuple[str, ...] = ()

    def with_input_scale(self, scale: float | None) -> _Job:
        """The job with this fixed scale, where its own `prepare` has none."""
        if self.inner or not self.quantize_input or self.config.input_scale is not None:
            return self
        return replace(self, config=replace(self.config, input_scale=scale))


def _prepare(
    model: nn.Module,
    example_inputs: Sequence[Any],
    leaves: Sequence[ModuleQuant],
    march: str | None,
    image_scale: float | None,
    trained_for: str | None,
    inplace: bool = False,
) -> Prepared:
    """image_scale: fixed scale of the model's own inputs, wherever a unit takes them in."""
    fused_add = registry().arithmetic(trained_for).fused_add
    raise_if_any(overlapping(leaves))
    asked = {leaf.path: module_at(model, leaf.path, leaf.at) for leaf in leaves}
    raise_if_any(unusual_modules(asked))
    raise_if_any(refused_hooks(model))
    model = model if inplace else copied(model)
    for module in model.modules():
        compute_on_read(module)
    jobs = [job for leaf in leaves for job in _jobs(model, leaf)]
    paths = [job.path for job in jobs]
    seen = whole(example_inputs) if paths == [""] else capture(model, example_inputs, paths)
    jobs = [
        job.with_input_scale(image_scale)
        if seen.calls[job.path].takes_only(example_inputs)
        else job
        for job in jobs
    ]
    units = []
    for job in jobs:
        module = module_at(model, job.path)
        unit = _prepare_unit(module, job, seen, march, fused_add)
        units.append(unit)
        if job.path:
            replace_module(model, module, unit.module)
        else:
            model = unit.module
    raise_if_any(verify_inputs(units, seen))
    prepared = Prepared(
        model=model,
        decisions={key: d for unit in units for key, d in unit.decisions.items()},
        march=march,
        modules=tuple(leaf.path for leaf in leaves),
        input_scale=next((job.config.input_scale for job in jobs if job.quantize_input), None),
        example_inputs=tuple(example_inputs),
        warnings=(
            *registry().doubts("fuse_pattern"),
            *registry().doubts("quant_handler"),
            *(w for unit in units for w in unit.warnings),
            *check_rules((unit.rules, unit.calls) for unit in units),
        ),
        quantized_classes={n: c for unit in units for n, c in unit.custom.quantized},
        calls=tuple(call for unit in units for call in unit.calls),
    )
    require_usable(prepared)
    set_stage(prepared, "calibration")
    return prepared


def _jobs(model: nn.Module, leaf: ModuleQuant) -> list[_Job]:
    """The leaf, after the standalone modules inside it."""
    assert leaf.qconfig is not None
    config = leaf.prepare or PrepareConfig()
    module = module_at(model, leaf.path, leaf.at)
    jobs = []
    inside = standalone_modules(module, config)
    for path, item in inside.items():
        absolute = join(leaf.path, path)
        outer = decide(leaf.qconfig, module=path, ops=())
        own = item.qconfig is not None
        jobs.append(
            _Job(
                path=absolute,
                rule_path=absolute if own else leaf.path,
                rules=qconfig_rules(item.qconfig) if own else leaf.qconfig,
                config=prepare_config(item.prepare),
                quantize_input=outer.qconfig is None,
                quantize_output=True,
                at=item.at,
                inner=True,
            )
        )
    jobs.append(
        _Job(
            path=leaf.path,
            rule_path=leaf.path,
            rules=leaf.qconfig,
            config=config,
            quantize_input=leaf.quantize_input,
            quantize_output=leaf.quantize_output,
            at=leaf.at,
            standalone=tuple(inside),
        )
    )
    return jobs


def _prepare_unit(
    module: nn.Module, job: _Job, seen: Capture, march: str | None, fused_add: bool
) -> Unit:
    """The passes, in order."""
    custom = Custom.of(job.config, job.at)

    def qconfig_of(path: str, child: nn.Module) -> QConfig | None:
        absolute = join(job.path, path)
        name = absolute.removeprefix(job.rule_path).removeprefix(".")
        return decide(job.rules, module=name, ops=(symbol(type(child)),)).qconfig

    observed = observe_custom(module, custom, qconfig_of)
    traced = trace_module(module, seen.calls[job.path], job.config, [*job.standalone, *observed])
    unit = Unit(
        path=job.path,
        rule_path=job.rule_path,
        module=traced,
        context=GraphContext(traced, traced.graph, march if job.config.march_preset else None),
        rules=job.rules,
        config=job.config,
        quantize_input=job.quantize_input,
        quantize_output=job.quantize_output,
        custom=custom,
        fused_add=fused_add,
        at=job.at,
        inner=job.inner,
        standalone=frozenset(job.standalone),
    )
    drop_dead(unit)
    resolve(unit)
    fuse(unit, custom.patterns(registry().fuse_patterns()), registry())
    apply_fusers(unit)
    annotate(unit, registry())
    check_extremes(unit)
    insert(unit)
    swap(unit)
    verify_unit(unit)
    return unit
