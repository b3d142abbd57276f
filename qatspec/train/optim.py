"""Optimizers that specs name, the classes of torch.optim, and what of a model they train."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from qatspec.diag.codes import QS962
from qatspec.quant.fold import freeze_batch_norm, is_batch_norm
from qatspec.spec import Component, Trainer

#: type -> (the class of torch.optim, tensors of a parameter's shape that it keeps for each)
_OPTIMIZERS: dict[str, tuple[str, Callable[[Mapping[str, Any]], int]]] = {
    "sgd": ("SGD", lambda params: int(params["momentum"] != 0)),
    "adamw": ("AdamW", lambda params: 2 + params["amsgrad"]),
    "adam": ("Adam", lambda params: 2 + params["amsgrad"]),
    "nadam": ("NAdam", lambda params: 2),
    "radam": ("RAdam", lambda params: 2),
    "adamax": ("Adamax", lambda params: 2),
    "rmsprop": (
        "RMSprop",
        lambda params: 1 + int(params["momentum"] != 0) + int(params["centered"]),
    ),
    "adagrad": ("Adagrad", lambda params: 1),
    "adadelta": ("Adadelta", lambda params: 2),
    "asgd": ("ASGD", lambda params: 1),
    "rprop": ("Rprop", lambda params: 2),
    "adafactor": ("Adafactor", lambda params: 0),  # of weights: one number a row and a column
}
#: Those of which torch updates all parameters in one kernel on a CPU.
_FUSED = ("sgd", "adamw", "adam", "adagrad")


def freeze(model: nn.Module, trainer: Trainer) -> None:
    """Train no parameter that a pattern of `trainer.freeze` matches. Raises DiagnosticError QS962
    where a pattern, or one of the optimizer's groups, matches nothing, and where nothing is left to
    train."""
    named = dict(model.named_parameters())
    norms = [name for name, module in model.named_modules() if is_batch_norm(module)]
    for index, pattern in enumerate(trainer.freeze):
        _demand_match(pattern, (*named, *norms), f"{trainer.at}/freeze/{index}")
    for name, parameter in named.items():
        if _matches(trainer.freeze, name):
            parameter.requires_grad_(False)
    component = trainer.optimizer
    for index, group in enumerate(component.params["groups"] if component else ()):
        _demand_match(group["pattern"], named, f"{trainer.at}/optimizer/groups/{index}/pattern")
    if trainer.freeze and not any(p.requires_grad for p in named.values()):
        raise QS962.error(
            "`freeze` leaves no parameter to train",
            help="freeze fewer modules, or write `epochs: 0` to evaluate the weights as they are",
            at=f"{trainer.at}/freeze",
        )


def freeze_statistics(model: nn.Module, trainer: Trainer, epoch: int) -> None:
    """Keep the statistics of batch norms constant that the trainer freezes in an epoch (from 0)."""
    start = trainer.freeze_from_epoch
    frozen = trainer.batch_norm == "frozen" or (start is not None and epoch >= start)
    freeze_batch_norm(model, lambda name: frozen or _matches(trainer.freeze, name))


def build_optimizer(
    model: nn.Module, component: Component, *, fused: bool = False
) -> torch.optim.Optimizer:
    """Build the optimizer over every parameter that takes gradients.

    component: a trainer's `optimizer`, with every key that the schema has for its type. Weight
    decay applies to weights (two and more dimensions) alone: decaying a learned scale would shrink
    its range, and biases and batch-norm parameters do not add capacity. A group of the component
    states its own.

    fused: update all parameters in one kernel, where torch has one for the type. Its results differ
    from those of single operations in the last bit.
    """
    settings = dict(component.params)
    rules = settings.pop("groups")
    decay = settings.pop("weight_decay", None)
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    # without rules, the weights come first, then the rest
    for number, by_rule in enumerate((None, *rules)):
        for is_weight in (True, False):
            made: dict[str, Any] = {"params": []}
            if decay is not None:
                made["weight_decay"] = decay if is_weight else 0.0
            if by_rule is not None:
                made["lr"] = settings["lr"] * by_rule["lr_factor"]
                if by_rule["weight_decay"] is not None and decay is not None:
                    made["weight_decay"] = by_rule["weight_decay"]
            groups[number, is_weight] = made
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            numbers = (n for n, rule in enumerate(rules, 1) if re.search(rule["pattern"], name))
            groups[next(numbers, 0), parameter.dim() > 1]["params"].append(parameter)
    pairs = {key: tuple(value) for key, value in settings.items() if isinstance(value, list)}
    make = getattr(torch.optim, _OPTIMIZERS[component.type][0])
    kept = [group for group in groups.values() if group["params"]]
    if fused and component.type in _FUSED and not _has_sparse_gradients(model):
        settings["fused"] = True
    optimizer: torch.optim.Optimizer = make(kept, **{**settings, **pairs})
    return optimizer


def _has_sparse_gradients(model: nn.Module) -> bool:
    """Whether an embedding of the model gives a sparse gradient, which no fused kernel takes."""
    return any(getattr(module, "sparse", False) for module in model.modules())


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load a state dict; tensors of a parameter's shape get its memory format, which a checkpoint
    does not keep and without which torch takes its slow path on a GPU."""
    optimizer.load_state_dict(dict(state))
    for parameter, kept in optimizer.state.items():
        for key, value in kept.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                kept[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def tensors_per_parameter(component: Component) -> int:
    """Return how many tensors of a parameter's shape the optimizer keeps for each parameter."""
    return _OPTIMIZERS[component.type][1](component.params)


def clip(model: nn.Module, trainer: Trainer) -> torch.Tensor:
    """Clip the gradient as the trainer says. Returns its norm, before that of all is clipped."""
    if trainer.clip_value is not None:
        nn.utils.clip_grad_value_(model.parameters(), trainer.clip_value)
    limit = trainer.grad_clip
    return nn.utils.clip_grad_norm_(model.parameters(), limit or float("inf")).detach()


def _matches(patterns: Iterable[str], name: str) -> bool:
    return any(re.search(pattern, name) for pattern in patterns)


def _demand_match(pattern: str, names: Iterable[str], at: str) -> None:
    known = list(names)
    if not any(re.search(pattern, name) for name in known):
        raise QS962.error(
            f"`{pattern}` matches no parameter of the model",
            help=f"its parameters have names like `{known[0] if known else ''}`",
            at=at,
        )
