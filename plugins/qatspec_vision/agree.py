"""What model and data must agree on before a loss makes sense."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from qatspec.api import codes


def require_labels(highest: int, num_classes: int, at: str = "/model/params/num_classes") -> None:
    """Raises DiagnosticError QS914 where `highest`, a label of the data, is not below
    `num_classes`. at: the place in the spec that says how many the model has."""
    if highest >= num_classes:
        raise codes.QS914.error(
            f"the data has a label {highest}, the model only {num_classes} classes",
            help="give the model as many classes as the data set has",
            at=at,
        )


def require_labels_of_boxes(targets: Sequence[Mapping[str, Tensor]], num_classes: int) -> None:
    """Raises DiagnosticError QS914 where a label (`labels` of any target) is not below
    `num_classes`."""
    highest = max((int(t["labels"].max()) for t in targets if len(t["labels"])), default=0)
    require_labels(highest, num_classes)


def require_logits(outputs: Tensor) -> None:
    """Raises DiagnosticError QS929 unless a classifier's outputs have the shape (N, classes)."""
    if outputs.ndim != 2:
        raise codes.QS929.error(
            f"the model gives logits of shape {tuple(outputs.shape)}; "
            "classification takes (N, classes)",
            help="end `forward` in one number a class: `return x.flatten(1)` where the other "
            "sides are 1, a mean over them where they are not",
            at="/model/type",
        )
