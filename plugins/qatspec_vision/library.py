"""Classifiers of torchvision and timm, where these are installed: the registered models
`torchvision` and `timm`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from qatspec.api import codes
from qatspec_vision.classifier import Classifier
from qatspec_vision.installed import library

#: What the libraries raise for a name, an option or weights that they do not have.
_REFUSALS = (ValueError, TypeError, RuntimeError, KeyError, NotImplementedError, AttributeError)


def build_torchvision(params: Mapping[str, Any]) -> Classifier:
    """`torchvision.models.get_model(name, weights=..., **options)`, with layers of `num_classes`
    outputs in place of those that the published weights have for other classes.

    Raises DiagnosticError: QS915 without torchvision, QS917 where it refuses."""
    models = library("torchvision.models", "models of torchvision", "/model/type")
    name, weights, classes = params["name"], params["weights"], params.get("num_classes")

    def create() -> nn.Module:
        if weights is None:
            chosen = {} if classes is None else {"num_classes": classes}
            net: nn.Module = models.get_model(name, weights=None, **chosen, **params["options"])
            return net
        published = models.get_model_weights(name)[weights]
        net = models.get_model(name, weights=published, **params["options"])
        trained = len(published.meta["categories"])
        if classes is not None and classes != trained:
            _replace_outputs(net, trained, classes)
        return net

    return _built("torchvision", create, name, "weights: null")


def build_timm(params: Mapping[str, Any]) -> Classifier:
    """`timm.create_model(name, pretrained=..., num_classes=..., **options)`.

    Raises DiagnosticError: QS915 without timm, QS917 where it refuses."""
    timm = library("timm", "models of timm", "/model/type")
    options = {**params["options"], "pretrained": params["pretrained"]}
    if "num_classes" in params:
        options["num_classes"] = params["num_classes"]
    name = params["name"]
    return _built("timm", lambda: timm.create_model(name, **options), name, "pretrained: false")


def _replace_outputs(net: nn.Module, trained: int, classes: int) -> None:
    """Give the layers whose outputs are the classes of the published weights new ones, as they
    begin untrained."""
    for parent in list(net.modules()):
        for key, layer in list(parent.named_children()):
            bias = getattr(layer, "bias", None) is not None
            if isinstance(layer, nn.Linear) and layer.out_features == trained:
                setattr(parent, key, nn.Linear(layer.in_features, classes, bias=bias))
            elif isinstance(layer, nn.Conv2d) and layer.out_channels == trained:
                new = nn.Conv2d(layer.in_channels, classes, layer.kernel_size, bias=bias)  # type: ignore[arg-type]
                setattr(parent, key, new)


def _built(package: str, create: Callable[[], nn.Module], name: str, untrained: str) -> Classifier:
    """untrained: the param that leaves the published weights out."""
    try:
        return Classifier(create())
    except OSError as error:
        raise codes.QS917.error(
            f"{package} cannot fetch the published weights of `{name}`: {error}",
            help="build the model once where there is a network and copy the cache, or set "
            f"`{untrained}` in `model.params` and name a file of weights by "
            "`stages.float.solver.weights`",
            at="/model/params/name",
        ) from error
    except _REFUSALS as error:
        raise codes.QS917.error(
            f"{package} does not build `{name}`: {error}",
            help=f"see which names and options the installed {package} has",
            at="/model/params/name",
        ) from error
