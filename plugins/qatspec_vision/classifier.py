"""Image classification: any network that returns logits, and the registered model
`efficientnet`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qatspec_vision.agree import require_labels, require_logits
from qatspec_vision.efficientnet import EfficientNet
from qatspec_vision.layers import ConvBn, initialize, set_batch_norms


class Classification(nn.Module):
    """Loss and predictions of classifiers, whose forward returns logits (N, classes)."""

    def loss(self, outputs: Tensor, targets: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Cross-entropy; each target holds `label`, an int64 scalar.

        Raises DiagnosticError: QS914 where a label is not below the number of logits, QS929 for
        outputs of another shape."""
        require_logits(outputs)
        labels = torch.stack([target["label"] for target in targets])
        require_labels(int(labels.max()), outputs.shape[1], at="/model/params")
        return {"cls": F.cross_entropy(outputs, labels)}

    def predict(self, outputs: Tensor) -> list[dict[str, Tensor]]:
        """`scores` (classes,) that sum to one, and `label`, the best class.

        Raises DiagnosticError QS929 for outputs of another shape."""
        require_logits(outputs)
        return [{"scores": s, "label": s.argmax()} for s in outputs.softmax(1)]


class Classifier(Classification):
    """Any network (N, 3, H, W) -> logits (N, classes) as a model of qatspec: what a plugin's
    `build` returns for a torch model of one's own.

    The network is the child `net`: `quantize: {modules: {net: ...}}`, or the whole model."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net(images)
        return logits


class EfficientNetClassifier(Classification):
    """EfficientNet with its 1x1 head convolution, global average pooling and a linear classifier.

    forward: (N, 3, H, W) -> logits (N, num_classes).
    """

    def __init__(
        self, num_classes: int, backbone: EfficientNet, features: int, dropout: float
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Sequential(
            ConvBn(backbone.channels[-1], features, activation=backbone.activation),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(features, num_classes),
        )
        initialize(self.head)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(images)[-1])
        return logits


def build(params: Mapping[str, Any]) -> EfficientNetClassifier:
    """Build the registered model `efficientnet` from its params, with every key of the schema."""
    settings = dict(params)
    backbone = {k: v for k, v in settings.pop("backbone").items() if k != "type"}
    norms = settings.pop("batch_norm")
    model = EfficientNetClassifier(backbone=EfficientNet(**backbone, strides=(32,)), **settings)
    set_batch_norms(model, **norms)
    return model
