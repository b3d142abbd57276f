"""Parts of a trainer, with the defaults that the schema of the spec language states."""

from typing import Any, Literal

from qatspec.schema import spec_schema, with_defaults
from qatspec.spec import Component


def part(key: Literal["optimizer", "scheduler"], type: str, **params: Any) -> Component:  # noqa: A002
    """Return what a spec's `KEY: {type: TYPE, ...}` below `trainer` becomes."""
    schema = {"$ref": f"#/$defs/{key}", "$defs": spec_schema()["$defs"]}
    filled = with_defaults(schema, {"type": type, **params})
    del filled["type"]
    return Component(type=type, params=filled)


_DECAYED = {"lr": 0.5, "weight_decay": 0.1}
_MOMENTS = {**_DECAYED, "betas": [0.5, 0.6], "eps": 0.1, "decoupled_weight_decay": True}
#: Of what a trainer has one of: kinds with every key of each, beside adamw, sgd and step.
OPTIMIZERS = (
    {"type": "adam", **_MOMENTS, "amsgrad": True},
    {"type": "nadam", **_MOMENTS, "momentum_decay": 0.5},
    {"type": "radam", **_MOMENTS},
    {"type": "adamax", **_DECAYED, "betas": [0.5, 0.6], "eps": 0.1},
    {"type": "rmsprop", **_DECAYED, "alpha": 0.5, "eps": 0.1, "momentum": 0.5, "centered": True},
    {"type": "adagrad", **_DECAYED, "lr_decay": 0.5, "initial_accumulator_value": 0.5, "eps": 0.1},
    {"type": "adadelta", **_DECAYED, "rho": 0.5, "eps": 0.1},
    {"type": "asgd", **_DECAYED, "lambd": 0.5, "alpha": 0.5, "t0": 100},
    {"type": "rprop", "lr": 0.5, "etas": [0.5, 1.5], "step_sizes": [0.5, 1.5]},
    {"type": "adafactor", **_DECAYED, "beta2_decay": -0.5, "eps": [0.1, 0.1], "d": 1.5},
)
SCHEDULERS = (
    {"type": "exponential", "factor": 0.5, "warmup_steps": 3},
    {"type": "poly", "power": 0.5, "warmup_steps": 3},
    {"type": "one_cycle", "rise": 0.5, "start_factor": 0.5, "end_factor": 0.5},
    {
        "type": "plateau", "factor": 0.5, "patience": 2, "min_delta": 0.5, "min_factor": 0.1,
        "warmup_steps": 3,
    },
    {"type": "linear", "epochs": 2, "start_factor": 0.5, "end_factor": 0.1, "warmup_steps": 3},
    {"type": "low_start", "epochs": 2, "factor": 0.5, "warmup_steps": 3},
    {"type": "cosine_restarts", "epochs": 2, "growth": 2, "min_lr": 0.1, "warmup_steps": 3},
    {
        "type": "cyclic", "epochs": 2, "low_factor": 0.5, "mode": "triangular", "gamma": 0.5,
        "warmup_steps": 3,
    },
)  # fmt: skip
