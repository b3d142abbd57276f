"""A file plugin: blobs at one of four corners, and a net that finds them."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import nn

from qatspec.api import DatasetDef, DiagnosticError, ModelDef, Sample, codes, hookimpl


class Corners:
    classes = ("top left", "top right", "bottom left", "bottom right")

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        label = index % 4
        image = rng.normal(0.0, 0.1, (3, 16, 16)).astype(np.float32)
        row, column = divmod(label, 2)
        image[:, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] += 0.5
        return Sample(image, {"label": np.array(label)}, {"id": index})

    def read(self, path) -> Sample:
        try:
            with Image.open(path) as picture:
                pixels = np.asarray(picture.convert("RGB").resize((16, 16)), np.float32)
        except OSError as error:
            broken = codes.QS911.diagnostic(f"cannot read the picture `{path.name}`")
            raise DiagnosticError(broken) from error
        image = np.ascontiguousarray(((pixels - 128) / 128).transpose(2, 0, 1))
        return Sample(image, {}, {"id": path.name})

    def evaluate(self, predictions) -> dict[str, float]:
        right = [meta["id"] % 4 == int(p["label"]) for meta, p in predictions]
        return {"accuracy": 100.0 * sum(right) / len(right)}

    def details(self, predictions) -> dict[str, object]:
        counts = np.zeros((4, 4), int)
        for meta, prediction in predictions:
            counts[meta["id"] % 4, int(prediction["label"])] += 1
        shares = 100 * counts.diagonal() / counts.sum(axis=1)
        classes = {n: {"recall": float(s)} for n, s in zip(self.classes, shares, strict=True)}
        return {"classes": classes, "confusion": counts.tolist()}


class Net(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.head = nn.Conv2d(width, 4, 4)

    def forward(self, images):
        return self.head(self.stem(images))

    def loss(self, outputs, targets):
        labels = torch.stack([t["label"] for t in targets])
        return {"cross_entropy": nn.functional.cross_entropy(outputs.flatten(1), labels)}

    def predict(self, outputs):
        return [{"label": scores.flatten().argmax()} for scores in outputs]


WIDTH = {"type": "integer", "minimum": 1, "default": 8, "description": "channels"}
COUNT = {"type": "integer", "minimum": 0, "default": 32, "description": "examples"}


def schema(**properties):
    return {"type": "object", "additionalProperties": False, "properties": properties}


@hookimpl
def qatspec_models():
    yield ModelDef(
        name="toy_net", summary="two convs", params=schema(width=WIDTH),
        build=lambda params: Net(params["width"]),
    )  # fmt: skip


@hookimpl
def qatspec_datasets():
    yield DatasetDef(
        name="toy_corners", summary="bright corners", params=schema(count=COUNT),
        open=lambda params, cache_dir, base_dir: Corners(params["count"]),
        fingerprint=lambda params, base_dir: f"corners {params['count']}", metric="accuracy",
    )  # fmt: skip
