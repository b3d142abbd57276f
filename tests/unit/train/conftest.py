"""A toy task: which of two blobs is brighter. Small enough to train in milliseconds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from qatspec.plan.checkpoints import checkpoint_path
from qatspec.spec import Trainer
from qatspec.train.checkpoint import load
from qatspec.train.evaluate import evaluate
from qatspec.train.loader import Loader
from qatspec.train.loop import Training
from qatspec.types import Sample
from tests.trainers import part


class ToySet:
    classes = ("dark", "bright")

    def __init__(self, count: int = 20) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        label = index % 2
        image = rng.normal(label - 0.5, 0.5, (1, 4, 4)).astype(np.float32)
        return Sample(image, {"label": np.array(label)}, {"id": index})

    def evaluate(self, predictions) -> dict[str, float]:
        right = [meta["id"] % 2 == int(p["label"]) for meta, p in predictions]
        return {"accuracy": 100.0 * sum(right) / len(right)}


class ToyNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.1)
        self.fc = nn.Linear(16, 2)

    def forward(self, images):
        return self.fc(self.drop(self.bn(self.conv(images)).relu().flatten(1)))

    def loss(self, outputs, targets):
        labels = torch.stack([t["label"] for t in targets])
        return {"cross_entropy": nn.functional.cross_entropy(outputs, labels)}

    def predict(self, outputs):
        return [{"label": row.argmax()} for row in outputs]


@pytest.fixture
def toy_set():
    return ToySet


@pytest.fixture
def toy_net():
    return ToyNet


@pytest.fixture
def make_training(tmp_path):
    """make_training(folder name, **trainer settings) -> a Training on fresh, equal weights."""

    def make(
        folder: str = "run", *, dataset=None, report=None, model=None, check_steps=None,
        profile=False, batch_size=4, autocast=None, **settings,
    ) -> Training:  # fmt: skip
        torch.manual_seed(0)
        model = model or ToyNet()
        dataset = dataset or ToySet()
        device = torch.device("cpu")
        defaults = {
            "epochs": 2,
            "optimizer": part("optimizer", "sgd", lr=0.1, momentum=0.9),
            "scheduler": part("scheduler", "cosine", warmup_steps=2),
            "ema": 0.9,
            "checkpoint_steps": 3,
        }

        def validate():
            model.eval()
            loader = Loader(dataset, batch_size=8, seed=0)
            return evaluate(model, model.predict, loader, device=device)

        path = tmp_path / folder
        path.mkdir(exist_ok=True)
        torch.manual_seed(1)
        return Training(
            stage="float",
            model=model,
            to_train=model.train,
            trainer=Trainer(**{**defaults, **settings}),
            loader=Loader(dataset, batch_size=batch_size, seed=7),
            validate=validate,
            metric="accuracy",
            folder=path,
            device=device,
            seed=7,
            march="bayes",
            digests={"step": "d"},
            report=report or (lambda kind, data: None),
            check_steps=check_steps,
            profile=profile,
            autocast=autocast,
        )

    return make


@pytest.fixture
def last():
    return lambda training: load(checkpoint_path(training.folder, "float", "last"))
