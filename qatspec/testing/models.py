"""Checks of models."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from qatspec.graph.trace import trace
from qatspec.prepare.inputs import is_needed
from qatspec.testing.subject import Skipped, Subject, example_params
from qatspec.train.protocol import losses_of
from qatspec.types import ModelDef

#: What the kit knows targets to look like: detection and classification.
_TARGETS: tuple[Mapping[str, Tensor], ...] = (
    {"boxes": torch.tensor([[8.0, 8.0, 40.0, 48.0]]), "labels": torch.tensor([0])},
    {"label": torch.tensor(0)},
)


def builds_and_traces(subject: Subject, model: ModelDef) -> None:
    """It is an nn.Module with the protocol's methods, and its forward can be traced in eval."""
    built = _build(model)
    for method in ("loss", "predict"):
        assert callable(getattr(built, method, None)), f"it has no {method}()"
    trace(built.eval(), (_images(),))


def is_deterministic(subject: Subject, model: ModelDef) -> None:
    """One seed, one set of parameters; one input, one output."""
    first, second = _build(model), _build(model)
    for (name, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), f"{name} differs between two builds with one seed"
    first.eval()
    images = _images()
    with torch.no_grad():
        pairs = zip(_leaves(first(images)), _leaves(first(images)), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs), "eval gives another output the second time"


def losses_are_finite(subject: Subject, model: ModelDef) -> None:
    """A first training step gives finite losses and finite gradients."""
    built = _build(model).train()
    losses = _losses(built)
    for name, value in losses.items():
        assert torch.isfinite(value).all(), f"loss `{name}` is {value}"
    total: Any = torch.stack([value.sum() for value in losses.values()]).sum()
    total.backward()
    grads = [p.grad for p in built.parameters() if p.grad is not None]
    assert grads, "no parameter gets a gradient"
    assert all(torch.isfinite(g).all() for g in grads), "a gradient is not finite"


def _losses(built: nn.Module) -> dict[str, Tensor]:
    for target in _TARGETS:
        try:
            losses = built.loss(built(_images()), [target, target])  # type: ignore[operator]
        except KeyError:
            continue
        return losses_of(built, losses)
    raise Skipped("its loss takes targets that the kit does not know")


def _build(model: ModelDef) -> nn.Module:
    """The model from example params. Raises Skipped where the kit has no inputs for it."""
    torch.manual_seed(0)
    built = model.build(example_params(model.params))
    assert isinstance(built, nn.Module), f"build gave a {type(built).__name__}"
    needed = [p for p in inspect.signature(built.forward).parameters.values() if is_needed(p)]
    if len(needed) > 1:
        names = ", ".join(parameter.name for parameter in needed)
        raise Skipped(f"its forward takes {names}, whose shapes a spec states (`model.inputs`)")
    return built


def _images() -> Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) - 0.5


def _leaves(outputs: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]
