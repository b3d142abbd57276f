"""The hooks of qatspec. Each returns an iterable of frozen, named records (entry-point group
`qatspec`). Loading a plugin must not import torch: name callables by `qatspec.api.lazy`.

    from qatspec.api import ModelDef, hookimpl, lazy

    @hookimpl
    def qatspec_models():
        build = lazy("my_package.net:build")
        return [ModelDef(name="my_net", summary="a net", params={...}, build=build)]

The examples below are run by tests/contract/test_hooks.py; plugins/README.md is the guide.
"""

from __future__ import annotations

from collections.abc import Iterable

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
    RecordsView,
    SpecView,
    StageEvent,
)

#: Version of the names in `qatspec.api`, of hooks and of records. It rises when a plugin that was
#: written for the previous version may break. A plugin states the version that it was written for
#: by `qatspec_api = 2` in its module. A plugin that states none is not checked when it is loaded.
API_VERSION = 2

hookspec = pluggy.HookspecMarker("qatspec")
hookimpl = pluggy.HookimplMarker("qatspec")


@hookspec
def qatspec_models() -> Iterable[ModelDef]:
    """Models that specs name by `model.type`.

    from qatspec.api import NO_PARAMS, ModelDef, hookimpl, lazy

    @hookimpl
    def qatspec_models():
        build = lazy("my_package.net:build")  # build(params) -> nn.Module
        return [ModelDef(name="my_net", summary="a net", params=NO_PARAMS, build=build)]
    """
    return ()


@hookspec
def qatspec_datasets() -> Iterable[DatasetDef]:
    """Data sets that specs name by `data.<role>.type`, with their metrics.

    from qatspec.api import NO_PARAMS, DatasetDef, hookimpl, lazy

    @hookimpl
    def qatspec_datasets():
        return [
            DatasetDef(
                name="my_pictures",
                summary="pictures of mine",
                params=NO_PARAMS,
                open=lazy("my_package.data:open_pictures"),
                fingerprint=lazy("my_package.identity:fingerprint"),  # without torch
                metric="accuracy",
            )
        ]
    """
    return ()


@hookspec
def qatspec_qconfigs() -> Iterable[QConfigDef]:
    """qconfig presets: `stages.qat.qconfig: horizon_qat`.

    from qatspec.api import QConfig, QConfigDef, QSpec, hookimpl

    @hookimpl
    def qatspec_qconfigs():
        wide = QConfig(activation=QSpec(dtype="qint16"))
        return [QConfigDef(name="wide_qat", summary="int16 activations", config=wide)]
    """
    return ()


@hookspec
def qatspec_prepare_configs() -> Iterable[PrepareConfigDef]:
    """prepare presets: `quantize.modules.backbone.prepare: horizon`.

    from qatspec.api import PrepareConfig, PrepareConfigDef, hookimpl

    @hookimpl
    def qatspec_prepare_configs():
        copied = PrepareConfig(shared_conv="copy")
        summary = "a conv called twice becomes two"
        return [PrepareConfigDef(name="untied", summary=summary, config=copied)]
    """
    return ()


@hookspec
def qatspec_fuse_patterns() -> Iterable[FusePattern]:
    """Chains of ops that run as one.

    from qatspec.api import FusePattern, hookimpl

    @hookimpl
    def qatspec_fuse_patterns():
        chain = ("my_op", "relu|relu6")
        return [FusePattern(name="my_op_act", summary="one table", pattern=chain)]
    """
    return ()


@hookspec
def qatspec_quant_handlers() -> Iterable[QuantHandler]:
    """Ops: how each is annotated, lowered and written as ONNX. A module has an op of its own by the
    class attribute `canonical_op = "my_op"`.

        from qatspec.api import QuantHandler, hookimpl, lazy

        @hookimpl
        def qatspec_quant_handlers():
            return [
                QuantHandler(
                    name="my_op",
                    summary="a function of one number",
                    ops=("my_op",),
                    annotate=lazy("my_package.handler:annotate"),
                    lower=lazy("my_package.handler:lower"),
                    to_onnx=lazy("my_package.handler:to_onnx"),
                    examples=lazy("my_package.handler:examples"),
                )
            ]
    """
    return ()


@hookspec
def qatspec_observers() -> Iterable[ObserverDef]:
    """Ways to find a range: `observer: percentile`.

    from qatspec.api import ObserverDef, hookimpl, lazy

    @hookimpl
    def qatspec_observers():
        build = lazy("my_package.observer:Half")  # build(qspec, channels) -> nn.Module
        return [ObserverDef(name="half", summary="half of the extremes", build=build)]
    """
    return ()


@hookspec
def qatspec_marches() -> Iterable[March]:
    """Chip architectures and their compilers: `march: bayes`.

    from qatspec.api import March, hookimpl, lazy

    @hookimpl
    def qatspec_marches():
        return [
            March(
                name="my_chip",
                summary="a chip of mine",
                version=1,
                chips=("mc1",),
                supports=lazy("my_package.march:supports"),
                compile=lazy("my_package.march:compile_program"),
                run=lazy("my_package.march:run"),
            )
        ]
    """
    return ()


@hookspec
def qatspec_check(spec: SpecView, registry: RecordsView) -> Iterable[Finding]:
    """A plugin's own checks of a spec, run by `validate`.

    from qatspec.api import Finding, hookimpl

    @hookimpl
    def qatspec_check(spec):  # an implementation may take fewer arguments than the hook has
        if spec.seed != 0:
            return ()
        return [Finding(at="/seed", message="seed 0 everywhere", help="vary the seed")]
    """
    return ()


@hookspec
def qatspec_stage_event(event: StageEvent) -> None:
    """Told of everything that happens while a plan runs; exceptions are isolated.

    from qatspec.api import hookimpl

    seen = []

    @hookimpl
    def qatspec_stage_event(event):
        seen.append((event.kind, event.step))
    """
