"""DeepLabV3+ put together: the registered model `deeplabv3plus`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from qatspec_vision.agree import require_labels
from qatspec_vision.deeplab.decoder import SegmentationDecoder
from qatspec_vision.deeplab.head import AuxiliaryHead, DecodeHead
from qatspec_vision.deeplab.loss import SegmentationLoss
from qatspec_vision.efficientnet import EfficientNet
from qatspec_vision.layers import set_batch_norms

#: Strides of the backbone's maps: the head takes the first and the last, auxiliary heads all but
#: the last.
STRIDES = (8, 16, 32)


class DeepLabV3Plus(nn.Module):
    """The segmenter. In evaluation forward is the part that ships to the chip; loss, predict and
    the auxiliary heads stay in float.

    backbone         images to maps at STRIDES.
    auxiliary_heads  on the maps of stride 8 and 16, or empty; they run in training alone.
    auxiliary_weight of each of their losses.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: nn.Module,
        decode_head: DecodeHead,
        auxiliary_heads: Sequence[AuxiliaryHead],
        auxiliary_weight: float,
        loss: SegmentationLoss,
        post_process: SegmentationDecoder,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.auxiliary_weight = auxiliary_weight
        self.backbone = backbone
        self.decode_head = decode_head
        self.auxiliary_heads = nn.ModuleList(auxiliary_heads)
        self.segmentation_loss = loss
        self.post_process = post_process

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        """(N, 3, H, W), H and W multiples of 32 -> logits (N, num_classes, H / 8, W / 8); in
        training a list, the auxiliary heads' logits behind them."""
        maps = self.backbone(images)
        logits: Tensor = self.decode_head(maps[0], maps[-1])
        if not self.training:
            return logits
        return [logits, *(head(x) for head, x in zip(self.auxiliary_heads, maps, strict=False))]

    def loss(
        self, outputs: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]
    ) -> dict[str, Tensor]:
        """`segmentation`, and `auxiliary_0`, ... Each target holds `mask`, (H, W) int64.

        Raises DiagnosticError QS914 where a label is not below `num_classes`."""
        labels = torch.stack([target["mask"] for target in targets])
        ignored = labels == self.segmentation_loss.ignore_index
        require_labels(int(labels.masked_fill(ignored, 0).max()), self.num_classes)
        main, *auxiliary = outputs
        losses = {"segmentation": self.segmentation_loss(main, labels)}
        for index, logits in enumerate(auxiliary):
            weighted = self.auxiliary_weight * self.segmentation_loss(logits, labels)
            losses[f"auxiliary_{index}"] = weighted
        return losses

    def predict(self, outputs: Tensor) -> list[dict[str, Tensor]]:
        """One {mask (H, W) uint8} a picture (see SegmentationDecoder)."""
        predictions: list[dict[str, Tensor]] = self.post_process(outputs)
        return predictions


def build(params: Mapping[str, Any]) -> DeepLabV3Plus:
    """Build the registered model `deeplabv3plus` from its params, with every key of the schema."""
    settings = {k: v for k, v in params["backbone"].items() if k != "type"}
    backbone = EfficientNet(**settings, strides=STRIDES)
    num_classes = params["num_classes"]
    fine, _, coarse = backbone.channels
    head = DecodeHead(
        num_classes, (fine, coarse), enlarge=STRIDES[-1] // STRIDES[0], **params["head"]
    )
    auxiliary = dict(params["auxiliary"])
    weight = auxiliary.pop("weight")
    heads = [AuxiliaryHead(num_classes, c, **auxiliary) for c in backbone.channels[:-1]]
    model = DeepLabV3Plus(
        num_classes,
        backbone,
        head,
        heads if weight else [],
        weight,
        SegmentationLoss(**params["loss"]),
        SegmentationDecoder(STRIDES[0]),
    )
    set_batch_norms(model, **params["batch_norm"])
    return model
