"""Spec to Plan: the steps, what each depends on, and the digest of exactly that."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from qatspec.plan.digest import (
    default_threads,
    digest,
    digest_of_keys,
    software,
    starting_from,
    tried_step,
    with_environment,
    with_keys,
)
from qatspec.plan.model import Plan, PlannedCandidate, Step
from qatspec.plan.provided import (
    TRAINED_ON,
    fingerprint,
    plugin_of,
    plugins_of,
    sources,
    weights_sha256,
)
from qatspec.plan.values import spec_values, within
from qatspec.registry import Registry, registry as installed
from qatspec.source.pointer import join
from qatspec.spec import (
    Spec,
    feeds,
    picture_fitting,
    predecessor,
    prepare_config,
    preprocessing,
    takes_scale,
    weights_file,
)
from qatspec.spec.model import StageName
from qatspec.types import RUNTIME_INPUT, March, PrepareConfig

#: What a prepared model depends on, besides its inputs (`_of_inputs`).
_PREPARED = ("/model/type", "/model/params", "/quantize")
#: Of an input, a prepared model has the shape and the fixed scale of its port; what the float model
#: is fed is the data set's own.
_OF_INPUT = ("size", "channels", "shape", "dtype", "scale")
#: Parts of the spec that each step's tensors depend on, besides its own stage.
_PARTS: Mapping[str, tuple[str, ...]] = {
    "float": ("/seed", "/model/type", "/model/params", "/data/train"),
    "calibration": ("/seed", *_PREPARED, "/data/calibration"),
    "qat": ("/seed", *_PREPARED, "/data/qat"),
    "convert": ("/name", "/march", *_PREPARED),
    "compile": ("/name", "/march"),
}
#: Stages that `nproc` processes share; the others are one process's work.
_PARALLEL = ("float", "calibration", "qat")
#: Stages whose result is judged on data.val.
_JUDGED = ("float", "calibration", "qat", "convert")
_ROLE_BATCH_SIZE = re.compile(r"/data/\w+/batch_size")
_INPUT_SCALE = re.compile(r"/model/input/scale|/model/inputs/[^/]+/scale")


def resolve(
    spec: Spec,
    *,
    device: str = "cpu",
    threads: int | None = None,
    nproc: int = 1,
    registry: Registry | None = None,
) -> Plan:
    """Resolve a spec to its plan: the stages in order, each with the digest of what its tensors
    depend on, and of what its metrics depend on besides.

    spec      what `load` gave.
    device    "cpu" or "cuda": what training runs on, as far as tensors depend on it.
    threads   of torch in each process; None: what `default_threads(nproc)` says.
    nproc     training processes.
    registry  where names are looked up; None: the installed plugins.

    Returns the Plan. Raises DiagnosticError: what fingerprints of data and weights raise, and
    PluginFault where that is no diagnostic.
    """
    names = registry or installed()
    with spec.document.located():
        values = spec_values(spec, names, "tensors")
        judging = spec_values(spec, names, "evaluation")
        machine = {"device": device, "threads": threads or default_threads(nproc), "nproc": nproc}
        judged_by = _judged_by(spec, values, judging, names)
        judge = plugin_of("dataset", spec.data["val"].dataset.type, names).entry_point
        judging_folders = names.folders([judge])
        candidates = tuple(
            PlannedCandidate(
                name=candidate.name,
                group=candidate.group,
                plan=resolve(
                    candidate.spec,
                    device=device,
                    threads=threads,
                    nproc=nproc,
                    registry=names,
                ),
                stage=str(spec.tried),
            )
            for candidate in spec.candidates
        )
        steps: list[Step] = []
        for name in cast("list[StageName]", list(spec.stages)):
            step = _step(spec, name, values, machine, names)
            trainer = spec.stages[name].trainer
            if name == spec.tried:
                step = tried_step(step, candidates)
            if name == spec.tried or (trainer is not None and trainer.watches_validation):
                step = replace(with_keys(step, judged_by), watches=True)
            if name in _JUDGED or (name == "compile" and not names.march(spec.march).bit_exact):
                step = replace(
                    step,
                    judged_by=judged_by,
                    evaluation=digest(judged_by),
                    judging_folders=tuple(f for f in judging_folders if f not in step.folders),
                )
            steps.append(_after(step, steps))
    plan_digest = digest({"values": values, "evaluation": judging, "software": software()})
    return Plan(
        spec=spec,
        digest=plan_digest,
        steps=tuple(steps),
        tried=spec.tried,
        experimental=names.march(spec.march).experimental,
        candidates=candidates,
    )


def _step(
    spec: Spec,
    name: StageName,
    values: Mapping[str, Any],
    machine: Mapping[str, Any],
    names: Registry,
) -> Step:
    before, stage = predecessor(spec, name), spec.stages[name]
    keys: dict[str, Any] = {p: v for p, v in values.items() if within(p, _parts(spec, name, names))}
    if machine["nproc"] == 1:
        keys.update((p, "running") for p, v in keys.items() if _is_synchronized(p, v))
    if stage.batch_size is not None:
        keys = {p: v for p, v in keys.items() if not _ROLE_BATCH_SIZE.fullmatch(p)}
    if not _image_scale_counts(spec, before if name == "convert" else name):
        keys = {p: v for p, v in keys.items() if not _INPUT_SCALE.fullmatch(p)}
    if name != "compile" and "" not in spec.inputs:
        keys["/model/inputs#names"] = sorted(spec.inputs)  # what forward is called with
    if stage.seed is not None and "/seed" in keys:
        keys["/seed"] = stage.seed
    keys.pop(f"/stages/{name}/seed", None)
    plugins = tuple(plugins_of(spec, name, names))
    keys.update(sources(plugins))
    if name in TRAINED_ON:
        keys[f"data:{TRAINED_ON[name]}"] = fingerprint(spec, TRAINED_ON[name], names)
        keys.update((k, v) for k, v in machine.items() if k != "nproc" or name in _PARALLEL)
    if name == "convert" and (fitting := picture_fitting(spec, names)):
        keys["/data/val/params#fitting"] = dict(fitting)
    if (weights := weights_file(spec, stage.solver)) is not None:
        keys["weights"] = weights_sha256(weights, stage.solver.at)
    if name in ("calibration", "qat"):
        keys.update(_march_when_prepared(spec, name, names))
    keys = with_environment({**keys, **software()})
    return Step(
        name=name,
        inputs=(before,) if before else (),
        takes="program" if name == "compile" else stage.solver.pre_step_checkpoint,
        outputs=_outputs(name, spec.name, names.march(spec.march)),
        digest=digest_of_keys(keys),
        keys=keys,
        folders=names.folders({ref.entry_point for ref in plugins}),
        provenance={"name": spec.name, "march": spec.march},
        plugins=plugins,
    )


def _is_synchronized(pointer: str, value: Any) -> bool:
    """Return whether batch norms are to be synchronized over processes: over one it means
    nothing."""
    return value == "synchronized" and pointer.endswith(("/batch_norm", "/batch_norm/before"))


def _parts(spec: Spec, name: StageName, names: Registry) -> tuple[str, ...]:
    """Parts of the spec that a step's tensors depend on."""
    stage, before = spec.stages[name], predecessor(spec, name)
    parts = (*_PARTS[name], f"/stages/{name}")
    if name in ("calibration", "qat", "convert"):
        parts += _of_inputs(spec)
    if name == "convert":
        # the graph is prepared as in the stage it starts from, before its weights are loaded
        parts += (f"/stages/{before}/qconfig", f"/stages/{before}/quantize")
    if name == "convert" and preprocessing(spec, names) is not None:
        parts += _recorded(spec)  # in its files
    if name == "convert" and "handoff" in stage.options:
        # the configuration of the vendor's tool has them
        parts += tuple(f"/stages/compile/{key}" for key in ("opt", *RUNTIME_INPUT))
    if stage.solver.allow_miss or stage.solver.fresh:
        parts += ("/seed",)  # it initialises what the checkpoint lacks
    if name == "compile":
        asked = feeds(stage.options, spec.inputs)
        # frames become what the model is trained on
        parts += tuple(spec.inputs[n].at for n, feed in asked.items() if feed.kind != "featuremap")
    return parts


def _of_inputs(spec: Spec) -> tuple[str, ...]:
    """Parts of the spec that say what a prepared model takes."""
    return tuple(join(given.at, key) for given in spec.inputs.values() for key in _OF_INPUT)


def _recorded(spec: Spec) -> tuple[str, ...]:
    """Parts of the spec that files record of the inputs."""
    if "" in spec.inputs:
        return ("/model/input",)
    keys = ("size", "channels", "format", "mean", "std", "resize", "shape", "dtype")
    return tuple(join(given.at, key) for given in spec.inputs.values() for key in keys)


def _judged_by(
    spec: Spec, values: Mapping[str, Any], judging: Mapping[str, Any], names: Registry
) -> dict[str, Any]:
    """What metrics depend on besides tensors: data.val, and params that decode outputs."""
    dataset = spec.data["val"].dataset.type
    keys = {p: v for p, v in judging.items() if within(p, ("/model", "/data/val"))}
    keys.update((p, v) for p, v in values.items() if within(p, ("/data/val",)))
    keys["data:val"] = fingerprint(spec, "val", names)
    keys["metric"] = names.dataset(dataset).metric
    keys.update(sources([plugin_of("dataset", dataset, names)]))
    return with_environment(keys)


def _after(step: Step, earlier: Sequence[Step]) -> Step:
    """The step as it is known while the one that it starts from is not finished."""
    for before in (s for s in earlier if s.name in step.inputs):
        judged = before.evaluation if step.takes == "best" else ""
        recipe = [before.digest, step.takes, judged]
        step = starting_from(step, before.name, digest(recipe))
    return step


def _image_scale_counts(spec: Spec, stage: str | None) -> bool:
    """Return whether a unit that `stage` prepares may take the image at `model.input.scale`."""
    if stage not in ("calibration", "qat"):
        return False
    return any(takes_scale(leaf) for leaf in spec.quantization(stage))


def _march_when_prepared(spec: Spec, stage: str, names: Registry) -> dict[str, Any]:
    """What a prepared graph depends on of the march: whether it adds inside the accumulator; and
    where a preset asks for the march's special cases, the ops that it leaves in float and the name
    that handlers are given. Everything else of a march decides after training."""
    march = names.march(spec.march)
    keys: dict[str, Any] = {"/march#fused_add": march.arithmetic.fused_add}
    if any(_asks_for_march(leaf.prepare, names) for leaf in spec.quantization(stage)):
        keys["/march#special_cases"] = [march.name, *sorted(march.float_ops)]
    return keys


def _asks_for_march(config: PrepareConfig | None, names: Registry) -> bool:
    if config is None:
        return False
    inner = (*config.standalone_module_name, *config.standalone_module_class)
    configs = [prepare_config(item.prepare, item.at, names) for item in inner]
    return config.march_preset or any(_asks_for_march(c, names) for c in configs)


def _outputs(name: StageName, run: str, march: March) -> tuple[str, ...]:
    """Files of a finished step, relative to the work directory (rule: names of files)."""
    files: tuple[str, ...]
    match name:
        case "convert":
            files = (f"{run}-qat.onnx", f"{run}-converted.onnx", f"{run}.program")
        case "compile":
            modelled = march.capabilities.hardware is not None
            perf = ("json", "html") if modelled else ("json",) if march.measure else ()
            files = (f"{run}.bin", *(f"{run}.perf.{end}" for end in perf))
        case _:
            files = (f"{name}-checkpoint-best.pth.tar", f"{name}-checkpoint-last.pth.tar")
    return tuple(f"{name}/{file}" for file in files)
