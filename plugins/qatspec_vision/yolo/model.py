"""YOLO put together: the registered model `yolo`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qatspec_vision.agree import require_labels_of_boxes
from qatspec_vision.blocks import scale_channels
from qatspec_vision.detect.boxes import iou_and_giou
from qatspec_vision.detect.points import Outputs, gather_points
from qatspec_vision.layers import set_batch_norms
from qatspec_vision.yolo.centers import boxes_of_centers
from qatspec_vision.yolo.csp import CSPDarknet
from qatspec_vision.yolo.decoder import YOLODecoder
from qatspec_vision.yolo.head import YOLOHead
from qatspec_vision.yolo.loss import BoxLoss, EntropyLoss
from qatspec_vision.yolo.pan import PAN
from qatspec_vision.yolo.target import SimOTATarget


class YOLO(nn.Module):
    """The detector. forward is the part that ships to the chip; loss and predict stay in float.

    strides  of the maps, finest first.
    weights  of the losses, by name: cls, reg, objectness.
    """

    def __init__(
        self,
        num_classes: int,
        strides: Sequence[int],
        backbone: nn.Module,
        neck: nn.Module,
        head: nn.Module,
        targets: SimOTATarget,
        loss_reg: BoxLoss,
        post_process: YOLODecoder,
        weights: Mapping[str, float],
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.strides = tuple(strides)
        self.weights = dict(weights)
        self.backbone = backbone
        self.neck = neck
        self.head = head
        self.targets = targets
        self.loss_cls = EntropyLoss()
        self.loss_reg = loss_reg
        self.loss_objectness = EntropyLoss()
        self.post_process = post_process

    def forward(self, images: Tensor) -> Outputs:
        """(N, C, H, W), H and W multiples of the last stride -> class logits, boxes and objectness
        logits, a list of maps each (see YOLOHead)."""
        outputs: Outputs = self.head(self.neck(self.backbone(images)))
        return outputs

    def loss(self, outputs: Outputs, targets: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The losses `cls`, `reg` and `objectness`, each per positive point. A class learns the IoU
        of the predicted box, so that the score tells how well the box fits.

        Raises DiagnosticError QS914 where a label is not below `num_classes`."""
        require_labels_of_boxes(targets, self.num_classes)
        points = gather_points(outputs, self.strides, boxes_of_centers)
        positive, labels, boxes = self.targets(points, targets)

        predicted = points.boxes[positive]
        with torch.no_grad():
            fit = iou_and_giou(predicted, boxes)[0][:, None]
        sums = {
            "cls": self.loss_cls(
                points.logits[positive], F.one_hot(labels, self.num_classes).to(fit.dtype) * fit
            ),
            "reg": self.loss_reg(predicted, boxes),
            "objectness": self.loss_objectness(points.quality, positive.to(points.quality.dtype)),
        }
        count = max(len(labels), 1)
        return {name: total * (self.weights[name] / count) for name, total in sums.items()}

    def predict(self, outputs: Outputs) -> list[dict[str, Tensor]]:
        """One {boxes, scores, labels} an image (see YOLODecoder)."""
        predictions: list[dict[str, Tensor]] = self.post_process(outputs)
        return predictions

    def predict_numbers(self, outputs: Outputs) -> int:
        """The numbers that `predict` reads or makes for one image at most (see Decoder)."""
        return self.post_process.numbers(outputs)


def build(params: Mapping[str, Any]) -> YOLO:
    """Build the registered model `yolo` from its params, which hold every key of the schema."""
    width, depth, activation = params["width"], params["depth"], params["activation"]
    num_classes, strides = params["num_classes"], params["strides"]
    loss = dict(params["loss"])
    weights = {name: loss.pop(f"{name}_weight") for name in ("cls", "reg", "objectness")}
    head = {**params["head"], "channels": scale_channels(params["head"]["channels"], width)}

    backbone = CSPDarknet(params["in_channels"], width, depth, strides, activation)
    model = YOLO(
        num_classes,
        strides,
        backbone,
        PAN(backbone.channels, depth, activation),
        YOLOHead(backbone.channels, num_classes, activation=activation, **head),
        SimOTATarget(**params["target"]),
        BoxLoss(loss["box"]),
        YOLODecoder(strides, **params["decoder"]),
        weights,
    )
    set_batch_norms(model, **params["batch_norm"])
    return model
