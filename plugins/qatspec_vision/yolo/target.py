"""Which points learn which box in YOLO: the costs of SimOTA (YOLOX, Ge et al., 2021)."""

from __future__ import annotations

from torch import Tensor

from qatspec_vision.detect.assignment import DynamicTarget, of_labels


class SimOTATarget(DynamicTarget):
    """cost(box, point) = binary cross-entropy of the scores sqrt(class * objectness) against the
    box's class + iou_weight * -log(IoU). Points inside the box or near its centre may be taken, so
    that a box smaller than a cell is learnt too."""

    def __init__(self, topk: int, iou_weight: float, center_radius: float) -> None:
        super().__init__(topk, center_radius)
        self.iou_weight = iou_weight

    def allowed(self, inside: Tensor, central: Tensor) -> Tensor:
        return inside | central

    def cost(
        self, logits: Tensor, quality: Tensor, labels: Tensor, iou: Tensor, giou: Tensor
    ) -> Tensor:
        scores = (logits.sigmoid() * quality.sigmoid()[..., None]).sqrt()
        right, wrong = -_log(scores), -_log(1 - scores)
        entropy = wrong.sum(-1)[..., None, :] + of_labels(right - wrong, labels)
        return entropy - self.iou_weight * (iou + 1e-8).log()


def _log(x: Tensor) -> Tensor:
    """Logarithm, at least -100, as torch's binary cross-entropy has it."""
    return x.log().clamp(min=-100)
