"""Checks of qconfig and prepare presets."""

from __future__ import annotations

import torch
from torch import nn

from qatspec.prepare import prepare
from qatspec.quant.build import build_fake_quant
from qatspec.testing.subject import Subject
from qatspec.types import PrepareConfigDef, QConfig, QConfigDef


def qconfig_builds(subject: Subject, preset: QConfigDef) -> None:
    """Its fake-quants can be built, and give finite numbers on the range that they have seen."""
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    for qspec in (preset.config.activation, preset.config.weight):
        if qspec is None:
            continue
        fake_quant = build_fake_quant(qspec, 1 if qspec.ch_axis is None else len(x))
        fake_quant.observe(x)
        assert torch.isfinite(fake_quant(x)).all(), f"{qspec} gives no finite numbers"


def prepare_config_prepares(subject: Subject, preset: PrepareConfigDef) -> None:
    """A small net can be prepared with it."""
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU6(), nn.Conv2d(4, 2, 1))
    prepare(net, (torch.zeros(2, 3, 8, 8),), qconfig=QConfig(), prepare=preset.config)
