"""Checks of observers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qatspec.testing.subject import Subject
from qatspec.types import ObserverDef, QSpec


def survives_every_batch(subject: Subject, observer: ObserverDef) -> None:
    """amax() is float32 (1,), finite and not negative whatever came: nothing yet, zeros, constants,
    tiny and huge numbers. A batch that is not finite leaves no trace."""
    for name, batch in _BATCHES.items():
        built = _build(observer)
        _sane(built, "before any batch")
        built(batch)
        _sane(built, f"after {name}")
    built = _build(observer)
    built(_BATCHES["noise"])
    before = built.amax().clone()  # type: ignore[operator]
    assert before > 0, "amax() is 0 after a batch of noise"
    for bad in (float("nan"), float("inf")):
        built(torch.tensor([1e6, bad]))
        assert torch.equal(built.amax(), before), f"a batch with {bad} moves the range"  # type: ignore[operator]


def is_deterministic(subject: Subject, observer: ObserverDef) -> None:
    """The same batches give the same range."""
    first, second = _build(observer), _build(observer)
    for built in (first, second):
        for scale in (1.0, 3.0, 0.5):
            built(_BATCHES["noise"] * scale)
    assert torch.equal(first.amax(), second.amax()), "two runs over the same batches differ"  # type: ignore[operator]


def state_is_kept(subject: Subject, observer: ObserverDef) -> None:
    """A checkpoint brings the range back: what counts is in buffers."""
    first, second = _build(observer), _build(observer)
    first(_BATCHES["noise"])
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.amax(), second.amax()), "its state is not in buffers"  # type: ignore[operator]


_BATCHES: dict[str, Tensor] = {
    "zeros": torch.zeros(2, 3),
    "a constant": torch.full((2, 3), -2.5),
    "one number": torch.tensor([0.25]),
    "tiny numbers": torch.full((4,), 1e-38),
    "huge numbers": torch.tensor([-1e30, 1e30]),
    "noise": torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)),
}


def _build(observer: ObserverDef) -> nn.Module:
    built = observer.build(QSpec(observer=observer.name, scale=1 / 128), 1)
    assert isinstance(built, nn.Module), f"build gave a {type(built).__name__}"
    return built


def _sane(built: nn.Module, when: str) -> None:
    amax: Tensor = built.amax()  # type: ignore[operator]
    assert amax.shape == (1,), f"amax() has shape {tuple(amax.shape)} {when}"
    assert amax.dtype == torch.float32, f"amax() is {amax.dtype} {when}"
    assert torch.isfinite(amax).all() and (amax >= 0).all(), f"amax() is {amax} {when}"
