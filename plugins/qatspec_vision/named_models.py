"""What torchvision and timm say of their classifiers: the names, and what published weights were
trained with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from qatspec.api import DiagnosticError, LibraryModel, codes
from qatspec_vision.installed import library

_NO_WEIGHTS = "no weights are published for it: it begins untrained"


def timm_model(name: str) -> LibraryModel:
    """A model of timm: `name` as `timm.list_models()` has it, with or without a tag of weights.

    Raises DiagnosticError: QS915 without timm, QS917 for a name that it does not have."""
    models = library("timm.models", "models of timm")
    architecture, _, tag = name.partition(".")
    if not models.is_model(architecture):
        raise _unknown("timm", name, models.list_models())
    tags = models.list_pretrained(f"{architecture}.*")
    if tag and name not in tags:
        raise _unknown("timm", name, tags)
    config = models.get_pretrained_cfg(name)
    trained = models.is_model_pretrained(name)
    return LibraryModel(
        params={"name": name, "pretrained": trained},
        untrained={"pretrained": False},
        input=_input(config.input_size[1:], config.mean, config.std),
        notes=() if trained else (_NO_WEIGHTS,),
    )


def torchvision_model(name: str) -> LibraryModel:
    """A classifier of torchvision, by its name in `torchvision.models`.

    Raises DiagnosticError: QS915 without torchvision, QS917 where it cannot be imported or does not
    have the name."""
    models = library("torchvision.models", "models of torchvision")
    known = models.list_models(module=models)
    if name not in known:
        raise _unknown("torchvision", name, known)
    weights = models.get_model_weights(name).DEFAULT
    shown = weights.transforms()
    return LibraryModel(
        params={"name": name, "weights": "DEFAULT"},
        untrained={"weights": None},
        input=_input(shown.crop_size * 2, shown.mean, shown.std),
    )


def _input(size: Iterable[int], mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
    """Keys of `model.input`. size: height, width and what follows; mean, std: of pixels 0 to 1."""
    height, width, *_ = size
    return {
        "size": [height, width],
        "mean": [round(255 * value, 4) for value in mean],
        "std": [round(255 * value, 4) for value in std],
    }


def _unknown(package: str, name: str, known: Sequence[str]) -> DiagnosticError:
    near = get_close_matches(name, known, 3)
    return codes.QS917.error(
        f"the installed {package} has no classifier `{name}`",
        help=f"did you mean {', '.join(f'`{one}`' for one in near)}?"
        if near
        else f"see `qatspec explain QS917` for how to list the names of {package}",
    )
