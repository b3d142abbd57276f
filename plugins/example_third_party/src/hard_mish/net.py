"""A small classifier with hard_mish activations."""

import torch
from torch import nn

from hard_mish.op import HardMish


def _block(channels, width):
    conv = nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), HardMish())


class Net(nn.Module):
    """Images (N, 3, H, W) to logits (N, 2)."""

    def __init__(self, params):
        super().__init__()
        width = params["width"]
        self.features = nn.Sequential(
            _block(3, width),
            _block(width, width),
            nn.ReLU6(),  # fused behind hard_mish by this plugin's pattern
            nn.AdaptiveAvgPool2d(1),
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(width, 2))

    def forward(self, images):
        return self.classifier(self.features(images))

    def loss(self, outputs, targets):
        labels = torch.stack([target["label"] for target in targets])
        return {"cross_entropy": nn.functional.cross_entropy(outputs, labels)}

    def predict(self, outputs):
        return [{"label": row.argmax()} for row in outputs]
