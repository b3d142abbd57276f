"""Classifiers of torchvision and timm, where these are installed: the registered models
`torchvision` and `timm`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from qatspec.api import codes
from qatspec_vision.classifier import Classifier


def build_torchvision(params: Mapping[str, Any]) -> Classifier:
    """`torchvision.models.get_model(name, weights=..., num_classes=..., **options)`.

    Raises DiagnosticError: QS915 without torchvision, QS917 where it refuses."""
    models = _library("torchvision", "torchvision.models")
    return _build("torchvision", models.get_model, params, weights=params["weights"])


def build_timm(params: Mapping[str, Any]) -> Classifier:
    """`timm.create_model(name, pretrained=..., num_classes=..., **options)`.

    Raises DiagnosticError: QS915 without timm, QS917 where it refuses."""
    create = _library("timm", "timm").create_model
    return _build("timm", create, params, pretrained=params["pretrained"])


def _library(package: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package:
            raise  # the library is there, and lacks something itself
        raise codes.QS915.error(
            f"models of {package} need the package `{package}`",
            help=f"pip install {package}",
            at="/model/type",
        ) from None


def _build(
    library: str, create: Callable[..., nn.Module], params: Mapping[str, Any], **given: Any
) -> Classifier:
    options = {**params["options"], **given}
    if "num_classes" in params:
        options["num_classes"] = params["num_classes"]
    try:
        return Classifier(create(params["name"], **options))
    except (ValueError, TypeError, RuntimeError, KeyError, NotImplementedError) as error:
        raise codes.QS917.error(
            f"{library} does not build `{params['name']}`: {error}",
            help=f"see which names and options the installed {library} has",
            at="/model/params/name",
        ) from error
