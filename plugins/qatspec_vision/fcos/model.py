"""FCOS put together: the registered model `fcos`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qatspec_vision.agree import require_labels_of_boxes
from qatspec_vision.detect.points import Outputs, gather_points
from qatspec_vision.efficientnet import EfficientNet
from qatspec_vision.fcos.bifpn import BiFPN
from qatspec_vision.fcos.decoder import FCOSDecoder
from qatspec_vision.fcos.distances import boxes_of_distances, centerness_of
from qatspec_vision.fcos.head import FCOSHead
from qatspec_vision.fcos.loss import CenternessLoss, FocalLoss, GIoULoss
from qatspec_vision.fcos.target import DynamicFcosTarget
from qatspec_vision.layers import set_batch_norms


class FCOS(nn.Module):
    """The detector. forward is the part that ships to the chip; loss and predict stay in float.

    strides  of the neck's maps, finest first, a power of two each.
    weights  of the losses, by name: cls, reg, centerness.
    """

    def __init__(
        self,
        num_classes: int,
        strides: Sequence[int],
        backbone: nn.Module,
        neck: nn.Module,
        head: nn.Module,
        targets: DynamicFcosTarget,
        loss_cls: FocalLoss,
        post_process: FCOSDecoder,
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
        self.loss_cls = loss_cls
        self.loss_reg = GIoULoss()
        self.loss_centerness = CenternessLoss()
        self.post_process = post_process

    def forward(self, images: Tensor) -> Outputs:
        """(N, 3, H, W), H and W multiples of the last stride -> class logits, distances and
        centerness logits, a list of maps each (see FCOSHead)."""
        outputs: Outputs = self.head(self.neck(self.backbone(images)))
        return outputs

    def loss(self, outputs: Outputs, targets: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The losses `cls`, `reg` and `centerness`, each per positive point. Boxes learn by their
        centerness: a point on the edge of an object says little about it.

        Raises DiagnosticError QS914 where a label is not below `num_classes`."""
        require_labels_of_boxes(targets, self.num_classes)
        points = gather_points(outputs, self.strides, boxes_of_distances)
        positive, labels, boxes = self.targets(points, targets)

        one_hot = torch.zeros_like(points.logits)
        one_hot[positive] = F.one_hot(labels, self.num_classes).to(one_hot.dtype)
        xy = points.xy.expand(len(positive), -1, -1)[positive]
        centerness = centerness_of(xy, boxes)

        count = max(len(labels), 1)
        weight = centerness / centerness.mean().clamp(min=1e-6)
        sums = {
            "cls": self.loss_cls(points.logits, one_hot),
            "reg": self.loss_reg(points.boxes[positive], boxes, weight),
            "centerness": self.loss_centerness(points.quality[positive], centerness),
        }
        return {name: total * (self.weights[name] / count) for name, total in sums.items()}

    def predict(self, outputs: Outputs) -> list[dict[str, Tensor]]:
        """One {boxes, scores, labels} an image (see FCOSDecoder)."""
        predictions: list[dict[str, Tensor]] = self.post_process(outputs)
        return predictions

    def predict_numbers(self, outputs: Outputs) -> int:
        """The numbers that `predict` reads or makes for one image at most (see Decoder)."""
        return self.post_process.numbers(outputs)


def build(params: Mapping[str, Any]) -> FCOS:
    """Build the registered model `fcos` from its params, which hold every key of the schema."""
    num_classes, levels = params["num_classes"], params["neck"]["levels"]
    loss = dict(params["loss"])
    weights = {name: loss.pop(f"{name}_weight") for name in ("cls", "reg", "centerness")}

    backbone = EfficientNet(**{k: v for k, v in params["backbone"].items() if k != "type"})
    neck = BiFPN(backbone.channels, **params["neck"])
    head = FCOSHead(num_classes, params["neck"]["channels"], levels=levels, **params["head"])
    finest = backbone.strides[0]
    strides = [finest * 2**level for level in range(levels)]
    model = FCOS(
        num_classes,
        strides,
        backbone,
        neck,
        head,
        DynamicFcosTarget(**params["target"]),
        FocalLoss(**loss),
        FCOSDecoder(strides, **params["decoder"]),
        weights,
    )
    set_batch_norms(model, **params["batch_norm"])
    return model
