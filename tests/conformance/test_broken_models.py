"""Mistakes of an author of models and data sets: the run ends with exit code 3, the plugin's line,
what was expected and what was returned."""

from __future__ import annotations

import pytest
from torch import nn

from qatspec.cli import main
from qatspec.registry import registry
from qatspec.testing.models import losses_are_finite
from qatspec.types import NO_PARAMS, ModelDef

SPEC = """\
qatspec: 1
name: mistakes
march: bayes
plugins: [./mine.py]
model: {type: tiny, input: {size: [16, 16]}}
data:
  train: {type: blobs, batch_size: 4}
  val: {type: blobs, batch_size: 4}
stages:
  float: {trainer: {epochs: 1, optimizer: {type: sgd, lr: 0.005}}}
"""
PLUGIN = """\
import numpy as np
import torch
from torch import nn
from qatspec.api import NO_PARAMS, DatasetDef, ModelDef, Sample, hookimpl


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("mute")


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, images):
        return {"mask": self.conv(images)}

    def loss(self, outputs, targets):
        masks = torch.stack([t["mask"] for t in targets])
        return {"ce": nn.functional.cross_entropy(outputs["mask"], masks)}

    def predict(self, outputs):
        return [{"mask": one.argmax(0)} for one in outputs["mask"]]


class Blobs:
    classes = ("nothing", "blob")

    def __len__(self):
        return 8

    def sample(self, index, rng):
        image = rng.normal(size=(3, 16, 16)).astype(np.float32)
        return Sample(image, {"mask": (image[0] > 0).astype(np.int64)}, {"id": index})

    def evaluate(self, predictions):
        return {"share": float(np.mean([p["mask"].mean() for _, p in predictions]))}


@hookimpl
def qatspec_models():
    return [ModelDef(name="tiny", summary="s", params=NO_PARAMS, build=lambda p: Tiny())]


@hookimpl
def qatspec_datasets():
    return [
        DatasetDef(
            name="blobs", summary="s", params=NO_PARAMS, metric="share",
            open=lambda p, cache_dir, base_dir: Blobs(),
            fingerprint=lambda p, base_dir: "1",
        )
    ]
"""
LOSS = 'return {"ce": nn.functional.cross_entropy(outputs["mask"], masks)}'
PREDICT = 'return [{"mask": one.argmax(0)} for one in outputs["mask"]]'
EVALUATE = 'return {"share": float(np.mean([p["mask"].mean() for _, p in predictions]))}'
SAMPLE = 'return Sample(image, {"mask": (image[0] > 0).astype(np.int64)}, {"id": index})'

TARGET = '{"mask": (image[0] > 0).astype(np.int64)}'
SEQUENTIAL = """class Tiny(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 2, 3), nn.Conv2d(3, 2, 3))

    loss = predict = lambda *given: None


class Unused(nn.Module)"""

#: old text, new text, code, words of the message
MISTAKES = {
    "no loss": ("def loss(", "def compute_loss(", "QS010", "no method `loss`; `compute_loss`"),
    "no predict": ("def predict(", "def decode(", "QS010", "no method `predict`; `decode`"),
    "no forward": ("def forward(", "def call(", "QS010", "no method `forward`"),
    "no sample": ("def sample(", "def __getitem__(", "QS010", "`sample`; `__getitem__`"),
    "no length": ("def __len__(", "def length(", "QS010", "no method `__len__`"),
    "no evaluate": ("def evaluate(", "def score(", "QS010", "no method `evaluate`; `score`"),
    "no classes": ('classes = ("nothing", "blob")', "", "QS010", "data set `blobs` is None"),
    "classes are one text": ('("nothing", "blob")', '"blob"', "QS010", "data set `blobs` is a str"),
    "classes are lists": ('("nothing", "blob")', "[[[]], 1]", "QS010", "class 0 of data set"),
    "classes hold themselves": (
        'classes = ("nothing", "blob")', "classes = []; classes.append(classes)", "QS010", "class 0"
    ),
    "a sample that holds itself": (SAMPLE, "return (lambda s: s.append(s) or s)([])", "QS010",
        "a list of 1, the first a list of 1"),
    "a loss that holds itself": (LOSS, "return (lambda s: s.update(a=s) or s)({})", "QS010",
        "`a`: a dict of 1"),
    "a loss by numbers": (LOSS, "return {1: outputs['mask'].mean()}", "QS010", "(1: a tensor"),
    "an error that says nothing": (LOSS, "raise Mute", "QS004", "mute"),
    "warnings are texts": (SAMPLE, SAMPLE[:-1] + ", ['x'])", "QS010", "warnings that are a list"),
    "warnings are one text": (SAMPLE, SAMPLE[:-1] + ", 'x')", "QS010", "warnings that are a str"),
    "warnings are a class": (SAMPLE, SAMPLE[:-1] + ", int)", "QS010", "warnings that are a type"),
    "diagnostics are texts": (
        "    def __len__(self)", "    diagnostics = ['x']\n\n    def __len__(self)", "QS010",
        "`diagnostics` of data set",
    ),
    "length is no number": ("return 8", 'return "8"', "QS004", "__len__() of `Blobs`"),
    "build gives nothing": ("lambda p: Tiny()", "lambda p: None", "QS010", "an nn.Module"),
    "build gives the class": ("lambda p: Tiny()", "lambda p: Tiny", "QS010", "an nn.Module"),
    "open gives nothing": ("base_dir: Blobs()", "base_dir: None", "QS010", "returned None"),
    "fingerprint is no text": ('base_dir: "1"', "base_dir: None", "QS010", "expected a text"),
    "loss is a list": (LOSS, "return [outputs['mask'].mean()]", "QS010", "a list of 1"),
    "loss is nothing": (LOSS, "pass", "QS010", "returned None; expected a scalar tensor"),
    "loss is a number": (LOSS, "return 1.5", "QS010", "returned 1.5; expected a scalar"),
    "loss is empty": (LOSS, "return {}", "QS010", "a dict of 0"),
    "loss is not reduced": (LOSS, "return outputs['mask'].mean((1, 2, 3))", "QS010", "(4)"),
    "loss of numbers": (LOSS, "return {'ce': 1.0}", "QS010", "`ce`: 1.0"),
    "loss is detached": (LOSS, "return outputs['mask'].mean().detach()", "QS010", "no parameter"),
    "layers of torch alone": ("class Tiny(nn.Module)", SEQUENTIAL, "QS004", "forward() of `Tiny`"),
    "loss raises": (LOSS, "raise KeyError('labels')", "QS004", "KeyError: 'labels'"),
    "loss ends the process": (LOSS, "raise SystemExit(0)", "QS004", "SystemExit: 0"),
    "loss raises GeneratorExit": (LOSS, "raise GeneratorExit", "QS004", "`loss` in mine.py (line"),
    "sample raises GeneratorExit": (SAMPLE, "raise GeneratorExit", "QS004", "GeneratorExit"),
    "loss raises its own": (
        LOSS, "raise type('Stop', (BaseException,), {})('x')", "QS004", "raised Stop: x"
    ),
    "loss writes into a closed pipe": (LOSS, "raise BrokenPipeError(32, 'x')", "QS004", "Broken"),
    "forward raises in torch": ("Conv2d(3, 2", "Conv2d(4, 2", "QS004", "forward"),
    "predict is a mapping": (PREDICT, "return {'mask': outputs['mask']}", "QS010", "a dict of 1"),
    "predict is a tensor": (PREDICT, "return outputs['mask']", "QS010", "a tensor (2, 2, 16, 16)"),
    "predict is one short": (PREDICT, PREDICT + "[1:]", "QS010", "a list of 1"),
    "predict of tensors": (PREDICT, "return list(outputs['mask'])", "QS010", "for each of 2"),
    "predict of arrays": (PREDICT.split(" for")[0], "return [{'mask': 1}", "QS010", "`mask`: 1"),
    "predict has other keys": ('[{"mask":', '[{"label":', "QS010", "`label` for an image"),
    "predict raises": (PREDICT, "return outputs['masks']", "QS004", "KeyError: 'masks'"),
    "metric is absent": ('"share": float', '"portion": float', "QS010", "known: `portion`"),
    "metric is not finite": (EVALUATE, "return {'share': float('nan')}", "QS010", "returned nan"),
    "metric is a text": (EVALUATE, "return {'share': '1'}", "QS010", "names to numbers"),
    "metrics are a number": (EVALUATE, "return 0.5", "QS010", "returned 0.5"),
    "metric is complex": (EVALUATE, "return {'share': 1 + 2j}", "QS010", "names to numbers"),
    "metric is numpy's complex": (
        EVALUATE, "return {'share': np.complex64(1 + 2j)}", "QS010", "names to numbers"
    ),
    "metric is an array of complex": (
        EVALUATE, "return {'share': np.full(1, 2j)}", "QS010", "names to numbers"
    ),
    "metric is a duration": (
        EVALUATE, "return {'share': np.timedelta64(3, 's')}", "QS010", "names to numbers"
    ),
    "meta is empty": (
        EVALUATE, "return {'share': float(predictions[0][0]['name'])}", "QS010",
        "sample() of data set `blobs` gives `id` as meta",
    ),
    "evaluate raises": (EVALUATE, "return {'share': 1 / 0}", "QS004", "ZeroDivisionError"),
    "sample is a tuple": (SAMPLE, "return image, {}", "QS010", "a tuple of 2"),
    "sample of bytes": ("astype(np.float32)", "astype(np.uint8)", "QS010", "(3, 16, 16) of uint8"),
    "target is a text": ("(image[0] > 0).astype(np.int64)", "'x'", "QS010", "as target `mask`"),
    "target is a list": (TARGET, "[1]", "QS010", "target a list of 1"),
    "images of two sizes": ("size=(3, 16, 16)", "size=(3, 16 + index, 16)", "QS010", "one batch"),
    "sample raises": (SAMPLE, "return self.items[index]", "QS004", "has no attribute 'items'"),
}  # fmt: skip


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.yaml").write_text(SPEC)

    registry.cache_clear()  # every test has a plugin of its own

    def said(old="", new=""):
        assert old in PLUGIN
        (tmp_path / "mine.py").write_text(PLUGIN.replace(old, new))
        code = main.run(["run", "spec.yaml", "--allow-code", "--device", "cpu"])
        return code, capsys.readouterr().err

    yield said
    registry.cache_clear()


def test_without_a_mistake(said):
    assert said() == (0, "")


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake(said, mistake, tmp_path):
    old, new, code, words = MISTAKES[mistake]
    exit_code, err = said(old, new)
    assert exit_code == 3, err
    assert f"error[{code}]" in err and words in err, err
    assert "mine.py:" in err.splitlines()[0], "the line of the plugin"
    assert "from: mine.py" in err
    assert "internal" not in err
    assert "qatspec_file_" not in err, "the file's own name"


@pytest.mark.parametrize(
    "mistake", [m for m in MISTAKES if m.startswith(("predict", "metric is a"))]
)
def test_told_before_any_training(said, mistake, tmp_path):
    old, new, *_ = MISTAKES[mistake]
    said(old, new)
    assert not list(tmp_path.glob("runs/**/*.pth.tar"))


@pytest.mark.parametrize("raised", ["GeneratorExit", "type('Stop', (BaseException,), {})()"])
def test_import_that_raises_no_exception_is_the_plugin_s_fault(said, raised):
    exit_code, err = said("class Blobs:", f"raise {raised}\n\n\nclass Blobs:")
    assert exit_code == 3, err
    assert "error[QS007]: `mine.py` cannot be loaded" in err


def test_loss_may_be_one_tensor(said):
    assert said(LOSS, LOSS.replace('{"ce": ', "").replace("}", "")) == (0, "")


def test_the_kit_takes_one_tensor_too():
    class Scalar(nn.Conv2d):
        def loss(self, outputs, targets):
            return outputs.mean()

    model = ModelDef(name="s", summary="s", params=NO_PARAMS, build=lambda params: Scalar(3, 2, 1))
    losses_are_finite(None, model)


def test_metrics_that_nothing_decides_are_omitted(said, tmp_path):
    assert said('return {"share"', 'return {"large": float("nan"), "share"') == (0, "")
    assert "large" not in (tmp_path / "runs/mistakes/summary.json").read_text()
