"""What quantizing each module costs, one at a time.

By default only one module is quantized and the rest is float ("quantized"): its noise alone then
reaches the outputs, and small harms are not drowned by the others' noise. The other way round
("float"), everything is quantized but one module, which asks what giving that module more bits
would bring as things stand.
"""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from qatspec.analyze.measures import Noise
from qatspec.analyze.sites import Site, sites
from qatspec.graph import Prepared
from qatspec.prepare import set_stage
from qatspec.quant.fake_quant import FakeQuantize

Only = Literal["quantized", "float"]
Progress = Callable[[int, int], None]

#: A module stands out where its harm is more than so many times the median module's.
STANDS_OUT = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Harm:
    """measured  dB or metric with only this site quantized, or with only this site in float.
    loss      what quantizing it costs: noise over signal (mean over the outputs), or points."""

    site: Site
    measured: float
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """harms, greatest loss first; and what the whole model measures in float and quantized."""

    harms: tuple[Harm, ...]
    in_float: float
    quantized: float

    def standing_out(self, at_least: float = 0.0) -> list[Harm]:
        """The harms above `at_least` and STANDS_OUT times the median of all that do any."""
        losses = [harm.loss for harm in self.harms if harm.loss > 0]
        if not losses:
            return []
        limit = max(STANDS_OUT * statistics.median(losses), at_least)
        return [harm for harm in self.harms if harm.loss > limit]


def by_noise(
    prepared: Prepared, batches: Iterable[Sequence[Tensor]], only: Only = "quantized",
    progress: Progress | None = None,
) -> Sensitivity:  # fmt: skip
    """Rank by the noise at the outputs against the float model, every output counting alike.
    batches: the inputs of forward. `prepared` is left in eval stage."""
    switches = _Switches(prepared)
    all_sites = sites(prepared)
    noises: list[list[Noise]] = [[] for _ in all_sites]
    all_quantized: list[Noise] = []
    all_batches = list(batches)
    total = len(all_batches) * len(all_sites)
    for i, batch in enumerate(all_batches):
        with switches.on(()):
            real = _outputs(prepared, batch)
        with switches.on(switches.all):
            _add(all_quantized, real, _outputs(prepared, batch))
        for k, site in enumerate(all_sites):
            with switches.on(switches.chosen(site, only)):
                _add(noises[k], real, _outputs(prepared, batch))
            if progress:
                progress(i * len(all_sites) + k + 1, total)
    all_on = _ratio(all_quantized)
    harms = []
    for site, noise in zip(all_sites, noises, strict=True):
        ratio = _ratio(noise)
        loss = ratio if only == "quantized" else all_on - ratio
        harms.append(Harm(site=site, measured=_db(ratio), loss=loss))
    return Sensitivity(harms=_ranked(harms), in_float=math.inf, quantized=_db(all_on))


def by_metric(
    prepared: Prepared, measure: Callable[[], float], only: Only = "quantized",
    progress: Progress | None = None,
) -> Sensitivity:  # fmt: skip
    """Rank by a metric (higher is better); measure() gives it for `prepared.model` as it stands."""
    switches = _Switches(prepared)
    with switches.on(()):
        in_float = measure()
    with switches.on(switches.all):
        quantized = measure()
    harms = []
    all_sites = sites(prepared)
    for k, site in enumerate(all_sites):
        with switches.on(switches.chosen(site, only)):
            measured = measure()
        loss = in_float - measured if only == "quantized" else measured - quantized
        harms.append(Harm(site=site, measured=measured, loss=loss))
        if progress:
            progress(k + 1, len(all_sites))
    return Sensitivity(harms=_ranked(harms), in_float=in_float, quantized=quantized)


class _Switches:
    """Fake-quants of a prepared model in eval stage, on for the length of a block."""

    def __init__(self, prepared: Prepared) -> None:
        set_stage(prepared, "eval")
        self._modules = {
            path: module
            for path, module in prepared.model.named_modules(remove_duplicate=False)
            if isinstance(module, FakeQuantize)
        }
        self.all = tuple(path for path, module in self._modules.items() if module.fake_quant_on)

    def chosen(self, site: Site, only: Only) -> Sequence[str]:
        """The fake-quants that are on while the site is measured."""
        if only == "quantized":
            return site.fake_quants
        return [path for path in self.all if path not in site.fake_quants]

    @contextlib.contextmanager
    def on(self, paths: Sequence[str]) -> Iterator[None]:
        for module in self._modules.values():
            module.enable_fake_quant(False)
        for path in paths:
            self._modules[path].enable_fake_quant()
        try:
            yield
        finally:
            for path in self.all:
                self._modules[path].enable_fake_quant()


@torch.no_grad()
def _outputs(prepared: Prepared, batch: Sequence[Tensor]) -> list[Tensor]:
    return [leaf.clone() for leaf in pytree.tree_leaves(prepared.model(*batch))]


def _add(noises: list[Noise], real: Sequence[Tensor], quantized: Sequence[Tensor]) -> None:
    noises += [Noise() for _ in range(len(real) - len(noises))]
    for noise, x, y in zip(noises, real, quantized, strict=True):
        noise.add(x, y)


def _ratio(noises: Sequence[Noise]) -> float:
    """Noise over signal, mean over the outputs; an output of nothing but zeros counts as none."""
    ratios = [n.noise / n.signal for n in noises if n.signal > 0]
    return statistics.fmean(ratios) if ratios else 0.0


def _db(ratio: float) -> float:
    return math.inf if ratio <= 0 else -10 * math.log10(ratio)


def _ranked(harms: Iterable[Harm]) -> tuple[Harm, ...]:
    return tuple(sorted(harms, key=lambda harm: -harm.loss))
