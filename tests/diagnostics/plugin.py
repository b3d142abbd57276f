"""The plugin that the bad specs of this folder are checked against: small, and ours to keep."""

from __future__ import annotations

from qatspec.diag import Diagnostic
from qatspec.hookspecs import hookimpl
from qatspec.ops import plugin as ops
from qatspec.registry import Plugin, Registry
from qatspec.types import (
    RUNTIME_INPUT,
    Capabilities,
    DatasetDef,
    Finding,
    March,
    ModelDef,
    ObserverDef,
    OpSupport,
    PrepareConfig,
    PrepareConfigDef,
    QConfig,
    QConfigDef,
    QSpec,
    Verdict,
)

NET = {
    "type": "object",
    "additionalProperties": False,
    "required": ["num_classes"],
    "properties": {
        "num_classes": {"type": "integer", "minimum": 1, "description": "Classes."},
        "width": {"type": "number", "default": 1.0, "description": "Factor of all channels."},
    },
}
DIGITS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "split": {"enum": ["train", "val"], "default": "train", "description": "Which scans."},
        "root": {"type": "string", "default": "", "description": "Folder."},
    },
}
DETECTION = {
    "type": "object",
    "additionalProperties": False,
    "required": ["split", "images", "size"],
    "properties": {
        "split": {"enum": ["train", "val"], "description": "Which scans."},
        "images": {"type": "integer", "minimum": 1, "description": "Pictures."},
        "size": {"type": "integer", "minimum": 1, "description": "Pixels."},
    },
}
OPTIONS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "opt": {"enum": ["O0", "O3"], "default": "O3", "description": "Effort."},
        "cores": {"type": "integer", "minimum": 1, "default": 1, "description": "Cores."},
        **RUNTIME_INPUT,
    },
}


class Fake:
    """A plugin without callables: front-half tests never call any."""

    @hookimpl
    def qatspec_models(self):
        return [
            ModelDef(name="net", summary="a net", params=NET, build=lambda params: None),
            ModelDef(name="fcos", summary="a detector", params=NET, build=lambda params: None),
        ]

    @hookimpl
    def qatspec_datasets(self):
        return [
            DatasetDef(
                name="digits",
                summary="digits",
                params=DIGITS,
                open=lambda params, cache, base: None,
                fingerprint=lambda params, base: f"digits-{params['split']}",
                metric="AP",
            ),
            DatasetDef(
                name="digits_detection",
                summary="digits to find",
                params=DETECTION,
                open=lambda params, cache, base: None,
                fingerprint=lambda params, base: f"digits-{params['split']}",
                metric="AP",
            ),
        ]

    @hookimpl
    def qatspec_qconfigs(self):
        return [
            QConfigDef(
                name="horizon_calibration",
                summary="observe",
                config=QConfig(activation=QSpec(observer="percentile", fake_quant="fixed")),
                aliases=("HorizonCalibrationQConfig",),
            ),
            QConfigDef(
                name="horizon_calibrated",
                summary="fixed",
                config=QConfig(),
                aliases=("HorizonCalibratedQConfig",),
                needs_calibration=True,
            ),
            QConfigDef(name="horizon_qat", summary="moving", config=QConfig()),
        ]

    @hookimpl
    def qatspec_prepare_configs(self):
        return [
            PrepareConfigDef(
                name="horizon", summary="preset", config=PrepareConfig(march_preset=True)
            )
        ]

    @hookimpl
    def qatspec_observers(self):
        return [
            ObserverDef(name=name, summary=name, build=lambda spec: None)
            for name in ("moving_average", "percentile", "min_max")
        ]

    @hookimpl
    def qatspec_marches(self):
        return [
            March(
                name=name,
                summary=name,
                version=1,
                chips=chips,
                options=OPTIONS,
                supports=lambda op, program: Verdict(True),
                compile=lambda program, options: None,
                run=lambda artifact, arrays: [],
                capabilities=Capabilities(ops=ops),
                handoffs={"horizon": dict, **({"board": dict} if name == "bayes" else {})},
            )
            for name, chips, ops in (
                ("bayes", ("j5",), {"conv": OpSupport(dtypes=("int8", "int16"))}),
                ("bernoulli2", ("xj3", "j3", "x3"), None),
            )
        ]

    @hookimpl
    def qatspec_check(self, spec):
        if spec.model.params.get("width", 1) > 4:
            yield Finding("/model/params/width", "so wide a net needs hours", "at most 4")


def fake_registry(*more: Plugin) -> Registry:
    """A registry of qatspec's own ops, the fake plugin, and more."""
    core, fake = Plugin("ops", "qatspec", "1", ops), Plugin("fake", "fake-plugin", "1.0", Fake())
    return Registry([core, fake, *more])


def codes(diagnostics: tuple[Diagnostic, ...]) -> list[str]:
    return [d.code for d in diagnostics]
