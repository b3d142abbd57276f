"""timm and torchvision as if they were installed, with one small network."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

#: Classes of the published weights.
TRAINED = 10
_MEAN, _STD, _SIZE = (0.5, 0.5, 0.5), (0.5, 0.25, 0.5), (160, 192)


def tiny(name: str, *, num_classes: int = TRAINED, weights: Any = None, **options: Any) -> Any:
    """A classifier. With weights, other classes than theirs are refused, as torchvision does."""
    import torch
    from torch import nn

    if name not in ("tiny", "tiny.a1", "bare"):
        raise ValueError(f"Unknown model {name}")
    if weights is not None and num_classes != TRAINED:
        raise ValueError(f"num_classes expected value {TRAINED} but got {num_classes} instead.")
    layers = [nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, num_classes))
    if weights is not None or options.get("pretrained"):
        with torch.no_grad():
            net[0].weight.fill_(0.25)
    net.options = options
    return net


def fake_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """timm with `tiny` (weights `tiny.a1`) and `bare` (none); torchvision with `tiny`."""
    config = SimpleNamespace(mean=_MEAN, std=_STD, input_size=(3, *_SIZE))
    names = ["tiny", "bare"]
    timm = _module(monkeypatch, "timm", create_model=tiny)
    timm.models = _module(
        monkeypatch,
        "timm.models",
        is_model=lambda name: name in names,
        list_models=lambda: names,
        list_pretrained=lambda pattern: ["tiny.a1"] if pattern == "tiny.*" else [],
        get_pretrained_cfg=lambda name: config,
        is_model_pretrained=lambda name: name.startswith("tiny"),
    )
    shown = SimpleNamespace(crop_size=list(_SIZE), mean=list(_MEAN), std=list(_STD))
    weights = SimpleNamespace(
        transforms=lambda: shown,
        meta={"categories": [str(n) for n in range(TRAINED)]},
    )
    torchvision = _module(monkeypatch, "torchvision")
    torchvision.models = _module(
        monkeypatch,
        "torchvision.models",
        get_model=tiny,
        list_models=lambda module: ["tiny"],
        get_model_weights=lambda name: _Weights({"DEFAULT": weights}),
    )


class _Weights(dict[str, Any]):
    """An enum of weights, as torchvision has them."""

    @property
    def DEFAULT(self) -> Any:  # noqa: N802  torchvision's name
        return self["DEFAULT"]


def _module(monkeypatch: pytest.MonkeyPatch, name: str, **contents: Any) -> Any:
    module = ModuleType(name)
    vars(module).update(contents)
    monkeypatch.setitem(sys.modules, name, module)
    return module
