"""The hooks of qatspec. Each returns an iterable of frozen, named records (entry-point group
`qatspec`). Loading a plugin must not import torch: name callables by `qatspec.api.lazy`.

    from qatspec.api import ModelDef, hookimpl, lazy

    @hookimpl
    def qatspec_models():
        build = lazy("my_package.net:build")
        return [ModelDef(name="my_net", summary="a net", params={...}, build=build)]
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

from qatspec.types import (
    DatasetDef,
    Finding,
    FusePattern,
    March,
    ModelDef,
    ObserverDef,
    PrepareConfigDef,
    QConfigDef,
    QuantHandler,
    StageEvent,
)

if TYPE_CHECKING:
    from qatspec.spec import Spec

hookspec = pluggy.HookspecMarker("qatspec")
hookimpl = pluggy.HookimplMarker("qatspec")


@hookspec
def qatspec_models() -> Iterable[ModelDef]:
    """Models that specs name by `model.type`."""
    return ()


@hookspec
def qatspec_datasets() -> Iterable[DatasetDef]:
    """Data sets that specs name by `data.<role>.type`, with their metrics."""
    return ()


@hookspec
def qatspec_qconfigs() -> Iterable[QConfigDef]:
    """qconfig presets: `stages.qat.qconfig: horizon_qat`."""
    return ()


@hookspec
def qatspec_prepare_configs() -> Iterable[PrepareConfigDef]:
    """prepare presets: `quantize.modules.backbone.prepare: horizon`."""
    return ()


@hookspec
def qatspec_fuse_patterns() -> Iterable[FusePattern]:
    """Chains of ops that run as one."""
    return ()


@hookspec
def qatspec_quant_handlers() -> Iterable[QuantHandler]:
    """Ops: how each is annotated, lowered and referenced."""
    return ()


@hookspec
def qatspec_observers() -> Iterable[ObserverDef]:
    """Ways to find a range: `observer: percentile`."""
    return ()


@hookspec
def qatspec_marches() -> Iterable[March]:
    """Chip architectures and their compilers: `march: bayes`."""
    return ()


@hookspec
def qatspec_check(spec: Spec, registry: Any) -> Iterable[Finding]:
    """A plugin's own checks of a spec, run by `validate`."""
    return ()


@hookspec
def qatspec_stage_event(event: StageEvent) -> None:
    """Told of everything that happens while a plan runs; exceptions are isolated."""
