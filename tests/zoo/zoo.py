"""What a net of the zoo is, and where to find all of them."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

#: Pages that publish figures of many nets; `Published.source` names one of them or a paper.
TORCHVISION = "torchvision model zoo: num_params, GFLOPS (multiply-adds of conv and linear)"
TIMM = "timm results/benchmark-infer csv: param_count (M, rounded), infer_gmacs (norms too)"
PYTORCHCV = "pytorchcv model table (osmr/imgclsmob): Params; FLOPs/2 counts norms and pools too"


@dataclass(frozen=True)
class Published:
    """Figures that someone else counted.

    params  elements of nn.Parameter (batch norm's statistics do not count), None = not published.
    macs    multiply-adds of convolutions, linear layers and deconvolutions for one image, None =
            not published.
    size    (height, width) of that image; (length,) of a sound, (depth, height, width) of a volume.
    source  the paper or the official model zoo's page; also what else it counts, if anything.
    """

    params: int | None
    macs: int | None
    size: tuple[int, ...]
    source: str


@dataclass(frozen=True)
class Net:
    """A net that can be built at its public size and at a size for tests.

    build      build(width=1.0, depth=1.0, **own options) -> nn.Module of
               forward(x: (N, channels, H, W)) -> Tensor | list | dict.
    public     arguments of the published net.
    tiny       arguments of the net that tests run: narrow, about one block a stage, few classes.
    tiny_size  (height, width) of its input; likewise.
    channels   of the input.
    """

    name: str
    build: Callable[..., nn.Module]
    public: Mapping[str, Any]
    tiny: Mapping[str, Any]
    tiny_size: tuple[int, ...]
    published: Published | None = None
    channels: int = 3


@functools.cache
def nets() -> tuple[Net, ...]:
    """Every net, sorted by name."""
    names = [found.name for found in pkgutil.iter_modules([str(Path(__file__).parent)])]
    families = [importlib.import_module(f"tests.zoo.{name}") for name in names]
    found = [n for family in families for n in getattr(family, "NETS", ())]
    return tuple(sorted(found, key=lambda n: n.name))


def net(name: str) -> Net:
    """The net of this name. Raises KeyError."""
    return {n.name: n for n in nets()}[name]
