"""The tutorial's advice: each piece on a spec that departs from it, none on one that follows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qatspec.spec import load
from qatspec.spec.advice import advise

SPEC = """\
qatspec: 1
name: advised
march: bayes
model:
  type: toy_net
  input: {size: [16, 16]}
data:
  train: {type: toy_corners, params: {count: 32}, batch_size: 16}
  val: {type: toy_corners, batch_size: 8}
quantize: {prepare: horizon}
stages:
  float: {trainer: {epochs: 20, optimizer: {type: sgd, lr: 0.1}}}
  calibration: {trainer: {steps: 4}, qconfig: horizon_calibration}
  qat:
    trainer:
      epochs: 4
      optimizer: {type: sgd, lr: 1e-3, weight_decay: 5e-5}
      scheduler: {type: step, epochs: [2, 3], factor: 0.1}
    qconfig: horizon_calibrated
"""
STEP = "{type: step, epochs: [2, 3], factor: 0.1}"
DEPARTURES = {
    "lr far above": ("lr: 1e-3", "lr: 0.05", "/stages/qat/trainer/optimizer/lr", "0.05"),
    "lr far below": ("lr: 1e-3", "lr: 5e-5", "/stages/qat/trainer/optimizer/lr", "5e-05"),
    "decay": ("decay: 5e-5", "decay: 0.01", "/stages/qat/trainer/optimizer/weight_decay", "0.01"),
    "warm-up": (
        STEP, "{type: cosine, warmup_steps: 8}", "/stages/qat/trainer/scheduler/warmup_steps",
        "without warm-up",
    ),
    "a rise": (
        STEP, "{type: linear, epochs: 2}", "/stages/qat/trainer/scheduler", "without warm-up",
    ),
    "cycles": (
        STEP, "{type: cyclic, epochs: 2}", "/stages/qat/trainer/scheduler", "without warm-up",
    ),
    "many steps": (STEP, "{type: step, epochs: [1, 2, 3], factor: 0.1}",
                   "/stages/qat/trainer/scheduler", "3 times"),
    "other factor": ("factor: 0.1", "factor: 0.5", "/stages/qat/trainer/scheduler", "by 0.5"),
    "least lr": (STEP, "{type: cosine, min_lr: 1e-7}", "/stages/qat/trainer/scheduler/min_lr",
                 "1e-07"),
    "too long": ("epochs: 4\n", "epochs: 11\n", "/stages/qat/trainer/epochs", "it is 11"),
    "too short": ("epochs: 4\n", "epochs: 1\n", "/stages/qat/trainer/epochs", "it is 1)"),
    "small batch": ("batch_size: 16", "batch_size: 4", "/data/train/batch_size", "(4)"),
    "constant of fixed scales": (
        "qconfig: horizon_calibrated\n",
        'qconfig: {"": {activation: {fake_quant: fixed, averaging_constant: 0.5}}}\n',
        "/stages/qat/qconfig//activation/averaging_constant", "no effect",
    ),
}  # fmt: skip


@pytest.fixture
def advised(project):
    """A function from the text of a spec to its advice."""
    from qatspec.registry import registry

    def advised(text: str):
        registry.cache_clear()
        project.spec.write_text(f"plugins: [./toy_plugin.py]\n{text}")
        spec = load(project.spec, (), allow_code=True)
        return spec, advise(spec)

    return advised


def test_a_spec_that_follows_all_of_it(advised):
    assert advised(SPEC)[1] == []


@pytest.mark.parametrize("departure", DEPARTURES)
def test_each_departure_is_told_at_its_key(advised, departure):
    old, new, at, words = DEPARTURES[departure]
    assert SPEC.count(old) == 1
    spec, advices = advised(SPEC.replace(old, new))
    (advice,) = [advice for advice in advices if advice.at == at]
    assert words in f"{advice.advice}: {advice.reason}"
    line = spec.document.span(at).line
    assert new.split("\n")[0].split("{")[0] in project_line(spec, line)


def project_line(spec, line: int) -> str:
    return spec.document.texts[spec.document.path].splitlines()[line - 1]


def test_no_calibration(advised):
    text = SPEC.replace(
        "  calibration: {trainer: {steps: 4}, qconfig: horizon_calibration}\n", ""
    ).replace("horizon_calibrated", "horizon_qat")
    (advice,) = advised(text)[1]
    assert advice.advice == "add a stage `calibration`" and advice.at == "/stages/qat"


def test_a_preset_of_another_stage_is_answered_with_its_relative(advised):
    """What the advice writes in its place is a preset of the same integers, and ends the advice."""
    text = SPEC.replace("horizon_calibrated", "X").replace("_calibration", "_calibrated")
    _, (of_calibration, of_qat) = advised(text.replace("X", "horizon_calibration"))
    assert (of_calibration.stage, of_qat.stage) == ("calibration", "qat")
    for advice, name in ((of_calibration, "horizon_calibration"), (of_qat, "horizon_calibrated")):
        assert advice.advice == f"write `{name}` in stage {advice.stage}"
        assert advice.at == f"/stages/{advice.stage}/qconfig"
    foreign = SPEC.replace("march: bayes", "march: onnxruntime")
    foreign = foreign.replace("horizon_calibrated", "onnxruntime_calibration")
    assert advised(foreign)[1][0].advice == "write `onnxruntime_calibrated` in stage qat"


def test_a_preset_that_both_stages_share_is_no_departure(advised):
    shared = SPEC.replace("{prepare: horizon}", "{prepare: horizon, qconfig: horizon_calibration}")
    text = shared.replace(", qconfig: horizon_calibration}\n  qat", "}\n  qat")
    assert advised(text.replace("    qconfig: horizon_calibrated\n", ""))[1] == []


def test_a_float_stage_of_neither_training_nor_weights(advised):
    text = SPEC.replace("epochs: 20,", "epochs: 0,")
    (advice,) = advised(text)[1]
    assert advice.at == "/stages/float/trainer/epochs" and advice.stage == "float"
    assert "`solver: {weights: FILE}`" in advice.advice
    weights = text.replace("lr: 0.1}}}", "lr: 0.1}}, solver: {weights: trained.pth}}")
    assert advised(weights)[1] == []
    spec, _ = advised(text)
    pretrained = replace(spec.model, params={**spec.model.params, "pretrained": True})
    assert advise(replace(spec, model=pretrained)) == []


def test_a_stage_qat_that_trains_nothing(advised):
    (advice,) = advised(SPEC.replace("epochs: 4\n", "epochs: 0\n"))[1]
    assert advice.at == "/stages/qat/trainer/epochs" and "delete the stage" in advice.advice


def test_scales_that_are_numbers_need_no_calibration(advised):
    value = "{activation: {observer: fixed_scale, scale: 0.1, fake_quant: fixed}}"
    text = SPEC.replace("horizon_calibrated", f'{{"": {value}}}')
    calibration = "  calibration: {trainer: {steps: 4}, qconfig: horizon_calibration}\n"
    assert advised(text.replace(calibration, ""))[0].stages["qat"]


def test_frozen_statistics_make_a_small_batch_good(advised):
    text = SPEC.replace("batch_size: 16", "batch_size: 4")
    frozen = text.replace("      epochs: 4\n", "      epochs: 4\n      batch_norm: frozen\n")
    assert advised(frozen)[1] == []
    parts = text.replace("      epochs: 4\n", "      epochs: 4\n      accumulate: 2\n")
    assert advised(parts)[1] == []


def test_heavy_augmentation(advised):
    spec, _ = advised(SPEC)
    augment = {"mosaic": 0.5, "mixup": 0.0, "flip": 0.5,
               "torchvision": ["RandAugment", {"GaussianBlur": {"kernel_size": 3}}]}  # fmt: skip
    role = spec.data["qat"]
    dataset = replace(role.dataset, params={**role.dataset.params, "augment": augment})
    changed = replace(spec, data={**spec.data, "qat": replace(role, dataset=dataset)})
    (advice,) = advise(changed)
    assert (
        advice.at == "/data/train/params/augment"
        and "(it has mosaic, RandAugment)" in advice.advice
    )
    augment.update(mosaic=0.0, torchvision=["GaussianBlur"])
    assert advise(changed) == []
