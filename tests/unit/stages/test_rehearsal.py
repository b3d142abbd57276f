"""What is refused before the first training step."""

from __future__ import annotations

import sys

import pytest

from qatspec.diag import DiagnosticError, PluginFault

INT4 = "{'': {weight: {dtype: qint4}}}"


def _refused(project, *overrides: str, **options):
    """The diagnostics that `run` ends with, none of them after a training step."""
    with pytest.raises(DiagnosticError) as caught:
        project.run(*overrides, **options)
    kinds = [event.kind for event in project.events]
    assert "step_started" not in kinds and "progress" not in kinds
    assert not list(project.workdir.glob("*/*checkpoint*"))
    return caught.value.diagnostics


def _plugin(project, before: str, after: str) -> None:
    path = project.folder / "toy_plugin.py"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def _data(project, role: str) -> None:
    project.edit("  val:", f"  {role}\n  val:")


def test_an_opset_too_low_for_the_dtypes(project):
    project.edit("qconfig: horizon_calibration", f"qconfig: {INT4}")
    project.edit("qconfig: horizon_calibrated", f"qconfig: {INT4}")
    project.edit("convert: {}", "convert: {opset: 17}")
    project.edit("march: bayes", "march: onnxruntime")
    project.edit("compile: {opt: O3}", "compile: {}")
    (found,) = _refused(project)
    assert found.code == "QS720" and "--step float" in found.help
    done = project.call("check", "toy.yaml", "--allow-code")
    assert done.returncode == 1 and "convert would refuse this model" in done.stdout
    project.edit("convert: {opset: 17}", "convert: {opset: 21}")  # the way out
    assert project.call("check", "toy.yaml", "--allow-code").returncode == 0


def test_a_stage_that_quantizes_what_the_one_before_left_in_float(project):
    leave = "{'': horizon_calibration, module_name: {stem.0: null}}"
    project.edit("qconfig: horizon_calibration}", f"qconfig: {leave}}}")
    (found,) = _refused(project)
    assert found.code == "QS902" and "stem.1.weight_fake_quant" in found.message
    assert found.at == "/stages/qat" and found.span is None
    assert project.call("check", "toy.yaml", "--allow-code").returncode == 1


def test_fixed_scales_that_nothing_observes(project):
    text = project.spec.read_text()
    project.spec.write_text(
        text.replace("  calibration: {trainer: {steps: 4}, qconfig: horizon_calibration}\n", "")
    )
    project.edit("horizon_calibrated", "{'': {activation: {fake_quant: fixed}}}")
    assert [d.code for d in _refused(project)] == ["QS401"]  # known without the model


def test_calibration_data_that_is_empty(project):
    _data(project, "calibration: {type: toy_corners, params: {count: 0}}")
    assert [d.code for d in _refused(project)] == ["QS909"]


def test_validation_pictures_of_another_size(project):
    project.edit("size: [16, 16]", "size: [20, 16]")
    (found,) = _refused(project)
    assert found.code == "QS942" and "data.val" in found.message
    project.edit("size: [20, 16]", "size: [16, 16]")
    project.edit("channels: 3, format: rgb", "channels: 1, format: gray")
    (found,) = _refused(project)
    assert found.code == "QS942" and "data.train" in found.message


def test_a_metric_that_evaluate_does_not_give(project):
    _plugin(project, '{"accuracy":', '{"top1":')
    with pytest.raises(PluginFault, match="no metric `accuracy`"):
        project.run()
    assert "step_started" not in [event.kind for event in project.events]


def test_a_package_that_evaluate_needs(project):
    missing = "raise codes.QS915.error('no pycocotools')"
    _plugin(project, "        right = [", f"        {missing}\n        right = [")
    assert [d.code for d in _refused(project)] == ["QS915"]


def test_a_code_of_a_plugin_that_is_a_string(project):
    wrong = "from qatspec.api import Diagnostic; Diagnostic(code='QS999', message='m')"
    _plugin(project, "        right = [", f"        {wrong}\n        right = [")
    with pytest.raises(PluginFault, match=r"codes\.QS911\.error"):
        project.run()


def test_a_batch_norm_that_would_see_one_number(project):
    _plugin(
        project, "nn.Conv2d(width, 4, 4)",
        "nn.Sequential(nn.Conv2d(width, 4, 4), nn.BatchNorm2d(4))",
    )  # fmt: skip
    _data(project, "qat: {type: toy_corners, batch_size: 1}")
    (found,) = _refused(project)
    assert (found.code, found.at) == ("QS943", "/data/qat/batch_size")
    project.edit("batch_size: 1}", "batch_size: 2}")
    project.run("stages.float.trainer.epochs=1")


def test_a_runtime_that_is_not_installed(project, monkeypatch):
    project.edit("march: bayes", "march: onnxruntime")
    project.edit("compile: {opt: O3}", "compile: {}")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert {d.code for d in _refused(project)} <= {"QS804", "QS723"}


def test_what_an_untrained_model_does_is_not_held_against_it(project):
    """Numbers that overflow before training, and a metric that needs more pictures."""
    _plugin(
        project, "return self.head(self.stem(images))",
        "return self.head(self.boost(self.stem(images)))",
    )  # fmt: skip
    _plugin(
        project, "self.head = nn.Conv2d(width, 4, 4)",
        "self.head = nn.Conv2d(width, 4, 4)\n"
        "        self.boost = nn.Conv2d(width, width, 1)\n"
        "        nn.init.constant_(self.boost.weight, 3e38)",
    )  # fmt: skip
    _plugin(project, "        right = [", "        assert len(predictions) > 4\n        right = [")
    with pytest.raises(DiagnosticError) as caught:
        project.run()
    assert caught.value.diagnostics[0].code == "QS904"  # the training's own


def test_a_named_stage_is_not_held_up_by_later_ones(project):
    project.edit("convert: {}", "convert: {opset: 17}")
    for name in ("horizon_calibration", "horizon_calibrated"):
        project.edit(
            f"qconfig: {name}\n" if name.endswith("ed") else f"qconfig: {name}}}",
            f"qconfig: {INT4}\n" if name.endswith("ed") else f"qconfig: {INT4}}}",
        )
    summary = project.run("stages.float.trainer.epochs=1", step="float")
    assert [s["status"] for s in summary["steps"]] == ["run"]


WIDE = "{'': {activation: {dtype: qint16}, weight: {dtype: %s, ch_axis: 0}}}"


def _quantized_with(project, weight: str) -> None:
    project.edit("qconfig: horizon_calibration", f"qconfig: {WIDE % weight}")
    project.edit("qconfig: horizon_calibrated", f"qconfig: {WIDE % weight}")
    project.edit("march: bayes", "march: onnxruntime")
    project.edit("compile: {opt: O3}", "compile: {}")


def test_sums_too_large_for_the_untrained_weights_are_a_prediction(project):
    _quantized_with(project, "qint16")
    (found, *_) = _refused(project)
    assert found.code == "QS704" and "predicted from the weights before training" in found.message
    assert "--step float" in found.help
    project.run(step="float")  # the way out


def test_parts_that_the_cpu_runs_are_a_warning(project):
    plugin = project.folder / "toy_plugin.py"
    text = plugin.read_text()
    call = "self.head(self.stem(images))"
    assert call in text
    plugin.write_text(text.replace(call, "self.head(self.stem(images).log_softmax(1))"))
    project.edit("quantize: {prepare: horizon,", "quantize: {")
    done = project.call("check", "toy.yaml", "--allow-code")
    assert (done.returncode, done.stderr.count("QS813")) == (0, 1), done.stderr
    assert "% of model): the chip has no logarithm of a softmax" in done.stderr
    # what the help says
    project.edit("compile: {opt: O3}", "compile: {opt: O3, chip_only: true}")
    done = project.call("check", "toy.yaml", "--allow-code")
    assert done.returncode == 1 and "QS801" in done.stderr and "QS813" not in done.stderr


def test_sums_that_training_may_make_too_large_are_a_warning(project):
    _quantized_with(project, "qint8")
    # 4 * 4 * 48 products of int16 by int8, of which int32 holds 516 at the limit
    project.edit("type: toy_net", "type: toy_net\n  params: {width: 48}")
    done = project.call("check", "toy.yaml", "--allow-code")
    assert done.returncode == 0, done.stderr
    assert "QS708" in done.stderr and "`head`" in done.stderr
    project.run()
    told = [e.data["diagnostic"].code for e in project.events if "diagnostic" in e.data]
    assert told.count("QS708") == 1
