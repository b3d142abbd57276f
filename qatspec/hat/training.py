"""`<stage>_trainer` and `<stage>_solver` of a config as a stage of the spec."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from typing import Any

from qatspec.hat.draft import Draft
from qatspec.hat.values import Symbol, Table, tables
from qatspec.language import spec_schema

#: Keys of a trainer and of a solver that qatspec needs no word about: it does them by itself.
_DONE_BY_QATSPEC = (
    "model", "data_loader", "batch_processor", "device", "train_metrics", "val_metrics",
    "log_interval", "stop_by", "find_unused_parameters", "val_batch_processor", "val_data_loader",
)  # fmt: skip
_SOLVER_DEFAULTS = (
    "trainer", "quantize", "check_quantize_model", "allow_not_init", "strict_match", "pre_step",
    "resume_optimizer", "resume_epoch", "resume_step", "resume_epoch_or_step", "custom_config_dict",
)  # fmt: skip
_SILENT_CALLBACKS = ("StatsMonitor", "MetricUpdater", "Checkpoint", "SaveTraced", "TensorBoard")
#: HAT's default decay, which its recipes rely on.
_EMA = 0.9998
#: Steps of warm-up where the config says epochs: about two of 24,000 pictures in batches of 48.
_WARMUP = 1000
_STAGES = ("float", "calibration", "qat")


def trainer(draft: Draft, stage: str, table: Table) -> dict[str, Any]:
    """The `trainer` section of a stage; without the keys that the config does not say."""
    table.ignore(*_DONE_BY_QATSPEC)
    table.take("type")
    section: dict[str, Any] = {}
    for hat, key in (("num_epochs", "epochs"), ("num_steps", "steps")):
        if (count := table.number(hat)) is not None:
            section[key] = int(count)
    if stage == "calibration":
        _callbacks(draft, stage, table, {})
        table.ignore("sync_bn", "optimizer")
        return section
    if table.take("sync_bn") is True:
        section["batch_norm"] = "synchronized"
    if isinstance(table.get("optimizer"), Table):
        section["optimizer"] = _optimizer(draft, stage, table.table("optimizer"))
    _callbacks(draft, stage, table, section)
    return section


def _optimizer(draft: Draft, stage: str, table: Table) -> dict[str, Any]:
    kind = table.type.lower()
    known = spec_schema()["$defs"]["optimizer"]["properties"]["type"]["enum"]
    if kind not in known:
        draft.leave(
            f"the optimizer `{table.type}`", table.spans.get("type", table.span),
            "the spec language has none of this name, and `sgd` takes its place",
            f"choose one of {', '.join(known)}",
        )  # fmt: skip
        kind = "sgd"
    section: dict[str, Any] = {"type": kind}
    for key in ("lr", "momentum", "weight_decay", "eps", "alpha"):
        if (value := table.number(key)) is not None:
            section[key] = value
    for key in ("nesterov", "amsgrad", "centered"):
        if isinstance(table.get(key), bool):
            section[key] = table.take(key)
    if isinstance(table.get("betas"), list | tuple):
        section["betas"] = list(table.take("betas"))
    groups = table.table("params")
    for pattern in groups:
        settings = groups.table(pattern)
        group: dict[str, Any] = {"pattern": str(pattern)}
        if (decay := settings.number("weight_decay")) is not None:
            group["weight_decay"] = decay
        rate, base = settings.number("lr"), section.get("lr")
        if rate is not None and base:
            group["lr_factor"] = rate / base
        if (factor := settings.number("lr_mult")) is not None:
            group["lr_factor"] = factor
        section.setdefault("groups", []).append(group)
    draft.leave_unused(
        table, f"{stage}_trainer.optimizer", "`schemas/README.md` lists the keys of an optimizer"
    )
    table.ignore(*table)
    return section


def _callbacks(draft: Draft, stage: str, table: Table, section: dict[str, Any]) -> None:
    for index, callback in enumerate(tables(table.take("callbacks"))):
        kind = callback.type
        if kind in _CALLBACKS:
            _CALLBACKS[kind](draft, stage, callback, section)
        elif kind in _SILENT_CALLBACKS:
            callback.ignore(*callback)
        elif kind != "Validation":
            callback.ignore(*callback)
            draft.leave(
                f"the callback `{kind or index}` of `{stage}_trainer`",
                callback.span,
                "the spec language has no callbacks",
                "leave it out, or look for its effect in the keys of `trainer` "
                "(`schemas/README.md`)",
            )
    for callback in tables(table.get("callbacks")):
        if callback.type == "Validation":
            interval = callback.number("val_interval")
            callback.ignore(*callback)
            if interval not in (None, 1) and stage != "calibration":
                section["validate_epochs"] = int(interval or 1)


def _cosine(draft: Draft, stage: str, callback: Table, section: dict[str, Any]) -> None:
    section["scheduler"] = {"type": "cosine", **_warmup(draft, stage, callback)}


def _step(draft: Draft, stage: str, callback: Table, section: dict[str, Any]) -> None:
    epochs = callback.take("lr_decay_id")
    scheduler: dict[str, Any] = {"type": "step"}
    scheduler["epochs"] = [e for e in epochs if isinstance(e, int)] if epochs else []
    for key in ("lr_decay_factor", "scale"):
        if (factor := callback.number(key)) is not None:
            scheduler["factor"] = factor
    section["scheduler"] = {**scheduler, **_warmup(draft, stage, callback)}


def _poly(draft: Draft, stage: str, callback: Table, section: dict[str, Any]) -> None:
    power = callback.number("power")
    scheduler = {"type": "poly", **({} if power is None else {"power": power})}
    section["scheduler"] = {**scheduler, **_warmup(draft, stage, callback)}


def _warmup(draft: Draft, stage: str, callback: Table) -> dict[str, int]:
    """`warmup_steps`. Those of a warm-up in epochs depend on the data: a number is filled in, since
    the config's learning rate may diverge without any, and reported."""
    callback.used |= {"step_log_interval", "warmup_begin_lr", "max_update", "warmup_mode"}
    length, unit = callback.number("warmup_len"), callback.take("warmup_by", "epoch")
    if not length:
        return {}
    if unit == "step":
        return {"warmup_steps": int(length)}
    draft.leave(
        f"the warm-up of {length} epochs of `{stage}_trainer`",
        callback.spans.get("warmup_len", callback.span),
        f"a spec counts warm-up in steps, and {_WARMUP} steps take its place",
        f"write `warmup_steps` into `stages.{stage}.trainer.scheduler`: {length} times the number "
        "of pictures, divided by the batch sizes of all processes together",
    )
    at = f"/stages/{stage}/trainer/scheduler/warmup_steps"
    draft.comments[at] = f"{length} epochs in the config"
    return {"warmup_steps": _WARMUP}


def _average(draft: Draft, stage: str, callback: Table, section: dict[str, Any]) -> None:
    decay = callback.number("decay")
    section["ema"] = _EMA if decay is None else decay
    if decay is None:
        draft.comments[f"/stages/{stage}/trainer/ema"] = "not in the config: HAT's recipes"


def _frozen(draft: Draft, stage: str, callback: Table, section: dict[str, Any]) -> None:
    section["batch_norm"] = "frozen"


def _clipped(draft: Draft, stage: str, callback: Table, section: dict[str, Any]) -> None:
    for key in ("max_norm", "clip_norm", "norm"):
        if (norm := callback.number(key)) is not None:
            section["grad_clip"] = norm


_CALLBACKS: Mapping[str, Callable[[Draft, str, Table, dict[str, Any]], None]] = {
    "CosLrUpdater": _cosine,
    "CosineAnnealingLrUpdater": _cosine,
    "StepDecayLrUpdater": _step,
    "StepLrUpdater": _step,
    "WarmupStepLrUpdater": _step,
    "PolyLrUpdater": _poly,
    "ExponentialMovingAverage": _average,
    "FreezeBNStatistics": _frozen,
    "GradClip": _clipped,
}


def solver(draft: Draft, stage: str, table: Table) -> dict[str, Any]:
    """The `solver` section of a stage."""
    section: dict[str, Any] = {}
    for key in ("allow_miss", "ignore_extra"):
        if table.take(key) is True and (stage != "float" or _start(table)):
            section[key] = True
    if stage == "float":
        if start := _start(table):
            section["weights"] = start
            draft.comments["/stages/float/solver/weights"] = "relative to this file"
    else:
        previous = table.text("pre_step")
        if previous in _STAGES:
            section["pre_step"] = previous
        path = table.text("pre_step_checkpoint") or ""
        if "-checkpoint-last" in posixpath.basename(path):
            section["pre_step_checkpoint"] = "last"
    table.ignore(*_SOLVER_DEFAULTS, *_STARTS)
    draft.leave_unused(
        table, f"{stage}_solver", "`schemas/README.md` lists the keys of a stage's solver"
    )
    return section


_STARTS = ("pretrain_checkpoint", "resume_checkpoint", "pre_step_checkpoint")


def _start(table: Table) -> str | None:
    return next((table[key] for key in _STARTS if isinstance(table.get(key), str)), None)


def converters(trainer_: Table) -> str | None:
    """The checkpoint that `model_convert_pipeline` (HAT 2 and later) loads in front of training."""
    for converter in tables(trainer_.table("model_convert_pipeline").take("converters")):
        if converter.type == "LoadCheckpoint":
            return converter.text("checkpoint_path")
        if isinstance(converter.get("type"), Symbol):
            converter.used.add("type")
    return None
