"""One picture through the whole chain: float model, fake-quant model, Program, ONNX and binary
take the same normalised pixels, whatever their channels' order, mean and std."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from qatspec.cli.options import context as surroundings
from qatspec.engine import run
from qatspec.export import OnnxRunner
from qatspec.export.runner import open_session
from qatspec.plan import resolve
from qatspec.program import Artifact, load_program
from qatspec.spec import load
from qatspec.stages.models import open_model

SPEC = """
qatspec: 1
name: own
march: bayes
model:
  type: efficientnet
  params:
    num_classes: 3
    backbone:
      stem: 8
      blocks:
        - {{kernel: 3, repeats: 1, channels: 8, expand: 2, stride: 2}}
        - {{kernel: 3, repeats: 1, channels: 16, expand: 2, stride: 2}}
        - {{kernel: 3, repeats: 1, channels: 16, expand: 2, stride: 2}}
        - {{kernel: 3, repeats: 1, channels: 16, expand: 2, stride: 2}}
    features: 16
  input: {{size: [32, 32], {image}}}
data:
  train: {{type: imagefolder_classification, params: {{root: ., made_up: 6}}, batch_size: 6}}
  val: {{type: imagefolder_classification, params: {{root: ., made_up: 3}}, batch_size: 3}}
quantize: {{prepare: horizon, quantize_output: false}}
stages:
  float: {{trainer: {{epochs: 8, optimizer: {{type: adamw, lr: 0.01}}}}}}
  calibration:
    trainer: {{steps: 2}}
    qconfig: horizon_calibration
    solver: {{pre_step_checkpoint: last}}  # of one class: every epoch is as good as the first one
  qat: {{trainer: {{epochs: 1, optimizer: {{type: sgd, lr: 0.0001}}}}, qconfig: horizon_calibrated}}
  convert: {{}}
  compile: {{opt: O0, rt_input_type: {kind}, rt_input_layout: NHWC}}
"""
IMAGENET = "mean: [123.675, 116.28, 103.53], std: [58.395, 57.12, 57.375], resize: stretch"
CAFFE = "format: bgr, mean: [103.939, 116.779, 123.68], std: 1.0"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("image", "kind"), [(IMAGENET, "rgb"), (CAFFE, "rgb"), (CAFFE, "bgr")]
)  # fmt: skip
def test_one_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: str, kind: str):
    monkeypatch.chdir(tmp_path)
    Path("spec.yaml").write_text(SPEC.format(image=image, kind=kind))
    spec, folder = load("spec.yaml"), Path("runs/own")
    run(resolve(spec), folder, device="cpu")
    context = surroundings(spec, folder, device="cpu")

    seen = min((folder / "data").rglob("*.png"))  # a picture like those that were observed
    pixels = np.asarray(Image.open(seen).convert("RGB").resize((32, 32)))
    Image.fromarray(pixels).save("picture.png")
    ordered = pixels[..., ::-1] if spec.input.format == "bgr" else pixels
    mean, std = (np.asarray(v, np.float64) for v in (spec.input.mean, spec.input.std))
    wanted = ((ordered - mean) / std).transpose(2, 0, 1)[None]
    images = torch.from_numpy(context.dataset("val").read(Path("picture.png")).image[None])
    if spec.input.resize:  # else the data set crops the picture
        np.testing.assert_allclose(images, wanted, rtol=1e-5, atol=1e-6)
    images = torch.from_numpy(wanted.astype(np.float32))

    with torch.no_grad():
        real = open_model(context, folder / "float/float-checkpoint-last.pth.tar")(images).numpy()
        observed = folder / "calibration/calibration-checkpoint-best.pth.tar"
        calibrated = open_model(context, observed)(images).numpy()
        faked = open_model(context, folder / "qat/qat-checkpoint-best.pth.tar")(images).numpy()
    program = load_program(folder / "convert/own.program")
    ints = program.quantize(images.numpy())
    outputs = program.run(*ints)
    (whole,) = program.dequantize(outputs)
    size = np.abs(faked).max()
    assert np.abs(whole - faked).max() < 0.05 * size
    assert np.abs(real - calibrated).max() < 0.3 * np.abs(real).max()

    qat_file = folder / "convert/own-qat.onnx"
    session = open_session(qat_file.read_bytes(), 1)  # does not saturate on x86 without VNNI
    (shown,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    assert np.abs(shown - faked).max() < 0.05 * size
    converted = OnnxRunner.load(folder / "convert/own-converted.onnx")
    artifact = Artifact.load(folder / "compile/own.bin")
    camera = (pixels if kind == "rgb" else pixels[..., ::-1])[None]
    for mine, theirs, frames in zip(
        outputs, converted.run(*ints), artifact.run(np.ascontiguousarray(camera)), strict=True
    ):
        assert np.array_equal(mine, theirs) and np.array_equal(mine, frames)

    metadata = {p.key: p.value for p in onnx.load(qat_file).metadata_props}
    recorded = json.loads(metadata["qatspec.qat"])["image"]
    assert metadata["image"].startswith(f"{spec.input.format} 32 x 32")
    assert recorded == program.image == converted.image == artifact.image
    assert recorded["mean"] == list(spec.input.mean) and recorded["format"] == spec.input.format
    assert len(recorded["std"]) == 3
    assert ("crop" in recorded) != ("resize" in recorded), "the data set's fit is recorded"
