"""The community tutorial's advice on training a quantized model, as far as a spec shows whether it
is followed. Advice is no warning: the vendor's own recipes depart from it where they measured so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from qatspec.registry import Registry, registry as installed
from qatspec.source.pointer import join
from qatspec.spec.batch_sizes import unchosen
from qatspec.spec.model import Component, Spec, Trainer
from qatspec.spec.presets import Purpose, purpose, relative

#: The tutorial's learning rate, its least one, and its weight decay; a value is far from one of
#: them beyond this factor.
LEARNING_RATE, LEAST_RATE, WEIGHT_DECAY, FAR = 1e-3, 1e-6, 5e-5, 10.0
#: Pictures of a step below which the statistics of batch norms are noise.
SMALL_BATCH = 8
#: Params of a model that say whether it is built with trained weights.
_TRAINED = {"pretrained", "weights"}
#: Transforms of torchvision that change pictures much.
_HEAVY = ("AugMix", "AutoAugment", "CutMix", "MixUp", "RandAugment", "TrivialAugmentWide")


@dataclass(frozen=True, slots=True)
class Advice:
    """at: JSON pointer of what it is about. advice: what to try, as an imperative; reason: why."""

    at: str
    advice: str
    reason: str

    @property
    def stage(self) -> str:
        """The stage that it is about; data and rules that several stages share are about qat."""
        _, key, name, *_ = [*self.at.split("/"), "", ""]
        return name if key == "stages" else "qat"


def advise(spec: Spec, registry: Registry | None = None) -> list[Advice]:
    """Return the advice that the training of a spec departs from, in the order of its stages.
    registry: where presets are looked up; None: the installed plugins."""
    stage = spec.stages.get("qat")
    trainer = stage.trainer if stage is not None else None
    of_every_spec = [*_untrained(spec), *_presets(spec, registry or installed())]
    if trainer is None or trainer.optimizer is None:
        return of_every_spec
    params = trainer.optimizer.params
    return [
        *of_every_spec,
        *_optimizer(params, join(trainer.at, "optimizer")),
        *_schedule(trainer, float(params["lr"]), join(trainer.at, "scheduler")),
        *_length(spec, trainer),
        *_calibration(spec),
        *_averaging(spec),
        *_batch(spec, trainer),
        *_augmentation(spec),
    ]


def _untrained(spec: Spec) -> Iterator[Advice]:
    """Of a stage float that has neither training nor weights, as far as the spec shows."""
    stage = spec.stages.get("float")
    if stage is None or stage.trainer is None or stage.trainer.epochs != 0:
        return
    params = spec.model.params
    if stage.solver.weights is None and not any(params.get(key) for key in _TRAINED & {*params}):
        yield Advice(
            join(stage.trainer.at, "epochs"),
            "name trained weights in stage float (`solver: {weights: FILE}`), or train it "
            "(`epochs: 10`)",
            "`epochs: 0` keeps the weights that the model is built with, which are random unless "
            "its code loads others",
        )


def _presets(spec: Spec, names: Registry) -> Iterator[Advice]:
    """Of presets that are written in a stage for which they are not made."""
    rules = {
        stage: {
            rule.at: rule.preset
            for leaf in spec.quantization(stage)
            for rule in (leaf.qconfig.rules if leaf.qconfig is not None else ())
            if rule.preset is not None
        }
        for stage in ("calibration", "qat")
        if stage in spec.stages
    }
    shared = rules.get("calibration", {}).keys() & rules.get("qat", {}).keys()
    reasons: dict[str, tuple[Purpose, Purpose, str]] = {
        "calibration": (
            "calibrated", "calibration",
            "`{}` is for qat, which measures no scales: its observer is not chosen for a "
            "calibration",
        ),
        "qat": (
            "calibration", "calibrated",
            "qat keeps the scales that calibration measured: the observer of `{}` has no effect",
        ),
    }  # fmt: skip
    for stage, of_stage in rules.items():
        met, wanted, reason = reasons[stage]
        for at, preset in of_stage.items():
            if at in shared or purpose(names.qconfig(preset)) != met:
                continue
            if (other := relative(preset, wanted, names)) is not None:
                yield Advice(at, f"write `{other}` in stage {stage}", reason.format(preset))


def _optimizer(params: Any, at: str) -> Iterator[Advice]:
    rate, decay = float(params["lr"]), params.get("weight_decay")
    if not LEARNING_RATE / FAR <= rate <= LEARNING_RATE * FAR:
        yield Advice(
            join(at, "lr"),
            f"start from a learning rate near {LEARNING_RATE:g} (it is {rate:g})",
            "quantized training begins from trained weights: a small rate changes nothing, and a "
            "large one destroys them",
        )
    if decay is not None and not WEIGHT_DECAY / FAR <= float(decay) <= WEIGHT_DECAY * FAR:
        yield Advice(
            join(at, "weight_decay"),
            f"try a weight decay near {WEIGHT_DECAY:g} (it is {float(decay):g})",
            "decay moves the ranges of weights that quantization is adapting to",
        )


def _schedule(trainer: Trainer, rate: float, at: str) -> Iterator[Advice]:
    params = trainer.scheduler.params
    if params.get("warmup_steps") or _rises(trainer.scheduler):
        yield Advice(
            join(at, "warmup_steps") if params.get("warmup_steps") else at,
            "train qat without warm-up",
            "its first rates are too small to change anything, and may lower the accuracy",
        )
    if trainer.scheduler.type == "step":
        drops, factor = len(params["epochs"]), float(params["factor"])
        if drops not in (1, 2) or factor != 0.1:
            yield Advice(
                at,
                f"lower the learning rate once or twice by 0.1 (it is lowered {drops} times by "
                f"{factor:g})",
                "more steps end at rates that train nothing",
            )
        yield from _least(rate * factor**drops, at)
    elif "min_lr" in params and float(params["min_lr"]):
        yield from _least(float(params["min_lr"]), join(at, "min_lr"))


def _rises(scheduler: Component) -> bool:
    """Whether the schedule itself begins with lower rates."""
    if scheduler.type == "linear":
        return float(scheduler.params["start_factor"]) < float(scheduler.params["end_factor"])
    return scheduler.type in ("one_cycle", "cyclic", "low_start")


def _least(rate: float, at: str) -> Iterator[Advice]:
    if rate < LEAST_RATE * (1 - 1e-9):
        yield Advice(
            at,
            f"end at a learning rate of at least {LEAST_RATE:g} (it ends at {rate:.2g})",
            "below it the weights do not cross from one integer to the next",
        )


def _length(spec: Spec, trainer: Trainer) -> Iterator[Advice]:
    float_stage = spec.stages.get("float")
    of_float = float_stage.trainer.epochs if float_stage and float_stage.trainer else None
    if trainer.epochs == 0:
        yield Advice(
            join(trainer.at, "epochs"),
            "train qat, or delete the stage: convert then starts from calibration",
            "`epochs: 0` changes no weight",
        )
        return
    if not of_float or trainer.epochs is None:
        return
    if not of_float / 10 <= trainer.epochs <= max(of_float / 2, 1):
        yield Advice(
            join(trainer.at, "epochs"),
            f"train qat for a tenth to a half of float's {of_float} epochs (it is "
            f"{trainer.epochs})",
            "shorter, it does not adapt; longer, it overfits",
        )


def _calibration(spec: Spec) -> Iterator[Advice]:
    if "calibration" not in spec.stages:
        yield Advice(
            "/stages/qat",
            "add a stage `calibration`",
            "scales found before training are better than those of the first steps, which matters "
            "more than any other setting",
        )


def _averaging(spec: Spec) -> Iterator[Advice]:
    written: dict[str, None] = {}
    for leaf in spec.quantization("qat"):
        for rule in leaf.qconfig.rules if leaf.qconfig is not None else ():
            activation = rule.value.activation if rule.value is not None else None
            at = join(join(rule.at, "activation"), "averaging_constant")
            if activation is None or activation.fake_quant != "fixed":
                continue
            if at in spec.document.spans:
                written[at] = None
    for at in written:
        yield Advice(
            at,
            "delete `averaging_constant`, or let the scales move (`fake_quant: moving`)",
            "the scales of these activations are fixed in qat: the constant has no effect",
        )


def _batch(spec: Spec, trainer: Trainer) -> Iterator[Advice]:
    stage, role = spec.stages["qat"], spec.data["qat"]
    size = (stage.batch_size or role.batch_size) * trainer.accumulate
    at = join(role.at, "batch_size")
    if stage.batch_size:
        at = join(stage.at, "batch_size_per_gpu")
    if at in unchosen(spec):
        return
    if size < SMALL_BATCH and trainer.batch_norm == "running" and not trainer.freeze_from_epoch:
        yield Advice(
            at,
            f"set `batch_norm: frozen` in the trainer of qat, or raise the batch size ({size})",
            "the statistics of so few pictures are noise, which the scales follow",
        )


def _augmentation(spec: Spec) -> Iterator[Advice]:
    role = spec.data["qat"]
    augment = role.dataset.params.get("augment")
    if not isinstance(augment, dict):
        return
    heavy = [name for name in ("mosaic", "mixup") if augment.get(name)]
    named = augment.get("torchvision") or ()
    heavy += [n for n in (t if isinstance(t, str) else next(iter(t)) for t in named) if n in _HEAVY]
    if heavy:
        yield Advice(
            join(join(role.dataset.at, "params"), "augment"),
            f"give `data.qat` weaker augmentation (it has {', '.join(heavy)})",
            "qat adapts to the inputs that the chip will see, and has few epochs for it",
        )
