"""Classifiers of torchvision and timm, where these are installed: the registered models
`torchvision` and `timm`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from qatspec.api import codes
from qatspec_vision.classifier import Classifier
from qatspec_vision.installed import library


def build_torchvision(params: Mapping[str, Any]) -> Classifier:
    """`torchvision.models.get_model(name, weights=..., num_classes=..., **options)`.

    Raises DiagnosticError: QS915 without torchvision, QS917 where it refuses."""
    models = library("torchvision.models", "models of torchvision", "/model/type")
    return _build("torchvision", models.get_model, params, weights=params["weights"])


def build_timm(params: Mapping[str, Any]) -> Classifier:
    """`timm.create_model(name, pretrained=..., num_classes=..., **options)`.

    Raises DiagnosticError: QS915 without timm, QS917 where it refuses."""
    create = library("timm", "models of timm", "/model/type").create_model
    return _build("timm", create, params, pretrained=params["pretrained"])


def _build(
    package: str, create: Callable[..., nn.Module], params: Mapping[str, Any], **given: Any
) -> Classifier:
    options = {**params["options"], **given}
    if "num_classes" in params:
        options["num_classes"] = params["num_classes"]
    try:
        return Classifier(create(params["name"], **options))
    except (ValueError, TypeError, RuntimeError, KeyError, NotImplementedError) as error:
        raise codes.QS917.error(
            f"{package} does not build `{params['name']}`: {error}",
            help=f"see which names and options the installed {package} has",
            at="/model/params/name",
        ) from error
