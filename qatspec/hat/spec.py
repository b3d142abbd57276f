"""A spec from a config of HAT."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qatspec.diag import Diagnostic, Span
from qatspec.diag.codes import QS970
from qatspec.hat import quantize as quantization, training
from qatspec.hat.data import Role, missing_roles, roles
from qatspec.hat.draft import NOT_SAID, Draft
from qatspec.hat.evaluate import evaluate
from qatspec.hat.model import model
from qatspec.hat.syntax import parse
from qatspec.hat.values import Symbol, Table
from qatspec.source.write import block

_STAGES = ("float", "calibration", "qat")
#: A pixel of 8 bits, less 128 and by 128, is the chip's integer as it is.
_CENTRED, _SCALE = 128, 0.0078125
#: How names of a config's sections end that the spec may not be read from.
_SECTIONS = ("_trainer", "_solver", "_predictor", "_model", "_cfg")
#: What the community tutorial advises where a config says nothing.
_TRAINERS: Mapping[str, Mapping[str, Any]] = {
    "float": {"epochs": 300, "optimizer": {"type": "sgd", "lr": 0.14, "momentum": 0.9}},
    "calibration": {"steps": 100},
    "qat": {
        "epochs": 30,
        "optimizer": {"type": "sgd", "lr": 0.001, "momentum": 0.9, "weight_decay": 5e-5},
        "scheduler": {"type": "step", "epochs": [10, 20], "factor": 0.1},
    },
}
#: Names of a config's parts, of which a snippet has one at least.
_PARTS = re.compile(r"(\w+_)?(trainer|solver|model|cfg|dict|loader|dataset|march)|step2solver")
_MODEL = {"type": "fcos", "params": {"num_classes": 80, "backbone": {"variant": "b0"}}}


@dataclass(frozen=True)
class Imported:
    """A spec that was made from a config.

    text      the spec as YAML.
    findings  what was corrected and what is not carried; texts: the lines that they point into.
    missing   JSON pointers of values that the config does not say.
    """

    text: str
    findings: tuple[Diagnostic, ...]
    texts: Mapping[str, str]
    missing: tuple[str, ...]


def import_config(path: Path, march: str | None) -> Imported:
    """Read a config of HAT and return the spec that says the same.

    path   the Python file, which is not executed: its syntax tree is evaluated as far as it holds
           literals. Once for each stage, as HAT_TRAINING_STEP says which one runs.
    march  of the spec; None: the config's, or bernoulli2.

    Raises DiagnosticError QS970 where the file is no Python or nothing of a config; OSError where
    it cannot be read.
    """
    tree, text, corrected = parse(path)
    draft = Draft(list(corrected))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    if not any(_PARTS.fullmatch(name) for name in names):
        raise QS970.error(
            f"`{path}` names no part of a config of HAT",
            help="name the file with `float_trainer`, `qat_solver` and their kind; a snippet is "
            "enough, such as `custom_config_dict = {...}`",
            span=Span(str(path)),
        )
    configs = {
        stage: _config(draft, *evaluate(tree, str(path), text, {"HAT_TRAINING_STEP": stage}))
        for stage in _STAGES
    }
    spec = _spec(draft, configs, path.stem, march)
    head = f"# Imported from {path.name} by `qatspec import-hat`.\n"
    written = block(spec, lambda pointer: draft.comments.get(pointer, ""))
    missing = tuple(p for p, words in draft.comments.items() if words == NOT_SAID)
    return Imported(head + written, tuple(draft.findings), {str(path): text}, missing)


def _config(draft: Draft, config: Table, skipped: Sequence[Span]) -> Table:
    """The names of a config as one stage evaluates it; what was not followed is reported."""
    for span in skipped:
        draft.leave(
            "this statement", span, "its effect is known to a running Python alone",
            "look whether it changes a dictionary of the config, and change the spec likewise",
        )  # fmt: skip
    for name, value in config.items():
        if isinstance(value, tuple) and len(value) == 1:
            config[name] = value[0]  # `name={...},`: a snippet of a call, whose comma is left
    return config


def _spec(
    draft: Draft, configs: Mapping[str, Table], name: str, march: str | None
) -> dict[str, Any]:
    top = configs["float"]
    spec: dict[str, Any] = {"qatspec": 1}
    spec["name"] = re.sub(r"[^\w.-]+", "_", str(top.get("task_name", name)))
    chip = march or _march(top)
    draft.fill(spec, "", **({"march": "bernoulli2"} if chip is None else {}))
    spec["march"] = chip or spec["march"]
    if isinstance(top.get("seed"), int):
        spec["seed"] = top["seed"]
    stages = [s for s in _STAGES if configs[s].table(f"{s}_trainer")] or list(_STAGES)
    spec["model"] = model(draft, top.table("model"), top)
    draft.fill(spec["model"], "/model", **_MODEL)
    data = roles(draft, configs, stages)
    missing_roles(draft, data)
    spec["model"]["input"] = _input(draft, data)
    batches = _stage_batches(data)
    spec["data"] = {key: value.section for key, value in data.items()}
    shared, stage_rules = _quantize(draft, configs, stages)
    if shared:
        spec["quantize"] = shared
    spec["stages"] = {}
    for stage in stages:
        settings = {**batches.get(stage, {}), **stage_rules[stage]}
        spec["stages"][stage] = _stage(draft, configs[stage], stage, settings)
    if stages != ["float"]:
        spec["stages"] |= {"convert": {}, "compile": _compile(top)}
    spec["smoke"] = _smoke(spec)
    _leave_names(draft, top)
    return spec


def _leave_names(draft: Draft, top: Table) -> None:
    """Report sections of the config that no part of the spec was read from."""
    stages = tuple(f"{stage}_" for stage in _STAGES)  # each is read from an evaluation of its own
    for name, value in top.items():
        if name.startswith(stages) or not isinstance(value, Table):
            continue
        if name.endswith(_SECTIONS) and not value.used:
            draft.leave(
                f"`{name}`", top.spans[name], "a spec has no such section",
                "nothing, where it says again what the model and the stages say: the deployed "
                "model, the integer stage and the export follow from them",
            )  # fmt: skip
    devices = top.get("device_ids")
    if isinstance(devices, list) and len(devices) > 1:
        draft.leave(
            "`device_ids`", top.spans["device_ids"], "a spec does not name devices",
            f"run it as `qatspec run SPEC --nproc {len(devices)}`",
        )  # fmt: skip


def _march(top: Table) -> str | None:
    value = top.get("march")
    name = value.last if isinstance(value, Symbol) else value
    return name.lower() if isinstance(name, str) else None


def _input(draft: Draft, data: Mapping[str, Role]) -> dict[str, Any]:
    val, train = data["val"], data["train"]
    image: dict[str, Any] = {"size": val.size or train.size, **train.image, **val.image}
    if image["size"] is None:
        del image["size"]
        draft.fill(image, "/model/input", size=[512, 512])
    if image.get("mean") == image.get("std") == _CENTRED:
        image["scale"] = _SCALE
        draft.comments["/model/input/scale"] = "1/128: 8-bit pixels are the chip's input"
    if train.size and train.size != image["size"]:
        train.section["params"]["size"] = train.size
    return image


def _stage_batches(data: dict[str, Role]) -> dict[str, dict[str, int]]:
    """`batch_size_per_gpu` of stages whose data differ from train's in nothing else; their roles
    are removed."""
    batches: dict[str, dict[str, int]] = {}
    train = data["train"].section
    for stage in ("calibration", "qat"):
        section = data[stage].section if stage in data else train
        if {**section, "batch_size": 1} == {**train, "batch_size": 1}:
            if section.get("batch_size") != train.get("batch_size"):
                batches[stage] = {"batch_size_per_gpu": section["batch_size"]}
            data.pop(stage, None)
    return batches


def _quantize(
    draft: Draft, configs: Mapping[str, Table], stages: list[str]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """(what all stages share, stage -> what it says of its own)."""
    trees: dict[str, dict[str, Any]] = {}
    for stage in stages:
        if stage == "float":
            continue
        config = configs[stage]
        table = config.table(f"{stage}_solver").table("custom_config_dict")
        table = table or config.table("custom_config_dict")
        if not table:  # the dictionaries alone, as the tutorial shows them
            for name in ("qconfig_dict", "prepare_custom_config_dict"):
                if name in config:
                    table.put(name, config[name], config.spans[name])
        trees[stage] = quantization.module(draft, stage, table)
        draft.leave_unused(
            table, "custom_config_dict", "`schemas/README.md` lists the keys below `quantize`"
        )
    shared, stage_rules = quantization.merge(trees)
    return shared, {stage: stage_rules.get(stage, {}) for stage in stages}


def _stage(draft: Draft, config: Table, stage: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    trainer, at = config.table(f"{stage}_trainer"), f"/stages/{stage}"
    section: dict[str, Any] = {"trainer": training.trainer(draft, stage, trainer)}
    defaults = dict(_TRAINERS[stage])
    if {"epochs", "steps"} & section["trainer"].keys():
        defaults.pop("epochs", None)
        defaults.pop("steps", None)
    if trainer:
        defaults.pop("scheduler", None)
    draft.fill(section["trainer"], f"{at}/trainer", **defaults)
    if "optimizer" in section["trainer"]:
        rate = _TRAINERS[stage]["optimizer"]["lr"]
        draft.fill(section["trainer"]["optimizer"], f"{at}/trainer/optimizer", lr=rate)
    solver = training.solver(draft, stage, config.table(f"{stage}_solver"))
    if stage == "float" and (start := training.converters(trainer)):
        solver.setdefault("weights", start)
    if solver:
        section["solver"] = solver
    section.update(settings)
    if stage != "float":
        draft.fill(section, at, qconfig=quantization.PRESETS[stage])
    draft.leave_unused(
        trainer, f"{stage}_trainer", "`schemas/README.md` lists the keys of a stage's trainer"
    )
    return section


def _compile(top: Table) -> dict[str, Any]:
    settings = top.table("compile_cfg")
    section: dict[str, Any] = {}
    for key in ("opt", "rt_input_type", "rt_input_layout"):
        value = settings.get(key, top.get(key))
        if isinstance(value, str | int):
            section[key] = f"O{value}" if key == "opt" and str(value).isdigit() else value
    return section


def _smoke(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Made-up pictures, so that `run --smoke` tries the spec before its data are there."""
    parts: dict[str, Any] = {"model": {"input": {"size": [128, 128]}}}
    parts["data"] = {}
    for name, section in spec["data"].items():
        params = {"made_up": 4, **({"size": [128, 128]} if "size" in section["params"] else {})}
        parts["data"][name] = {"params": params, "batch_size": 2, "workers": 0}
    parts["stages"] = {
        stage: {"batch_size_per_gpu": 2}
        for stage, section in spec["stages"].items()
        if "batch_size_per_gpu" in section
    }
    if "float" in spec["stages"]:
        # two steps from random weights: the rate of a long training would make them diverge
        parts["stages"]["float"] = {"trainer": {"optimizer": {"lr": 0.001}}}
        if "weights" in spec["stages"]["float"].get("solver", {}):
            parts["stages"]["float"]["solver"] = {"weights": None}
    if "qat" in spec["stages"]:
        # the same, with frozen statistics: those of two small pictures have next to no variance
        parts["stages"]["qat"] = {"trainer": {"optimizer": {"lr": 1e-5}, "batch_norm": "frozen"}}
    return {key: value for key, value in parts.items() if value}
