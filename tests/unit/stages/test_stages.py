from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from qatspec.analyze import sqnr
from qatspec.diag import DiagnosticError
from qatspec.plan import with_results
from qatspec.prepare import prepare_spec
from qatspec.program import Artifact, load_program
from qatspec.stages import Context
from qatspec.stages.compile import endings
from qatspec.stages.integers import compare, produce_with
from qatspec.stages.models import open_integers, open_model, open_prepared, result_file
from qatspec.train.checkpoint import load
from qatspec.types import Sample


@pytest.fixture
def context(finished):
    """A context of the finished project's plan."""
    return Context(
        spec=finished.load(),
        stage="",
        workdir=finished.workdir,
        folder=finished.workdir,
        source=None,
        digests={},
        device=torch.device("cpu"),
        seed=0,
    )


def test_random_validation_data_are_the_same_in_every_stage(context):
    class Drawn:
        def __len__(self):
            return 4

        def sample(self, index, rng):
            image = rng.normal(size=(1, 8, 8)).astype("float32")
            return Sample(image, {"label": np.array(0)}, {"id": index})

        def evaluate(self, predictions):
            return {}

    def drawn(role, seed):
        stage = replace(context, seed=seed)
        stage.dataset = lambda role: Drawn()
        loader = replace(stage.loader(role), definition=None)
        return torch.cat([batch.inputs[0] for batch in loader.ordered()])

    assert torch.equal(drawn("val", 1), drawn("val", 2))
    assert not torch.equal(drawn("train", 1), drawn("train", 2))


def statuses(summary):
    return [(s["stage"], s["status"]) for s in summary["steps"]]


def test_float_keys_keep_their_names_through_every_stage(finished):
    states = {
        stage: load(finished.workdir / stage / f"{stage}-checkpoint-best.pth.tar").state_dict
        for stage in ("float", "calibration", "qat")
    }
    for stage in ("calibration", "qat"):
        added = set(states[stage]) - set(states["float"])
        assert set(states["float"]) <= set(states[stage])
        assert added and all(
            "_activation_post_process_0." in key or ".weight_fake_quant." in key for key in added
        )


def test_qat_keeps_the_scales_of_calibration(finished):
    calibrated, trained = (
        load(finished.workdir / stage / f"{stage}-checkpoint-last.pth.tar").state_dict
        for stage in ("calibration", "qat")
    )
    scales = [k for k in trained if k.endswith("_activation_post_process_0.scale")]
    assert scales
    for key in scales:
        assert torch.equal(calibrated[key], trained[key]), key
    assert not torch.equal(calibrated["head.weight"], trained["head.weight"])


def test_checkpoints_say_where_they_come_from(finished):
    found = load(finished.workdir / "qat/qat-checkpoint-best.pth.tar")
    assert (found.stage, found.march) == ("qat", "bayes")
    step = with_results(finished.plan(), finished.workdir).step("qat")
    assert found.digests == {"step": step.digest, "evaluation": step.evaluation}
    assert found.metrics == finished.summary["metrics"]["qat"]


def test_decisions_are_written_beside_the_checkpoints(finished):
    content = json.loads((finished.workdir / "qat/qat-decisions.json").read_text())
    assert {d["op"] for d in content["decisions"]} >= {"conv2d"}
    assert any(d["weight"] and d["weight"]["dtype"] == "qint8" for d in content["decisions"])


def test_qat_trains_on_its_own_data(project):
    project.edit("  val:", "  qat: {type: toy_corners, params: {count: 16}, batch_size: 4}\n  val:")
    project.run()
    steps = {
        stage: load(project.workdir / stage / f"{stage}-checkpoint-last.pth.tar").step
        for stage in ("float", "qat")
    }
    assert steps == {"float": 3 * 32 // 8, "qat": 16 // 4}


def test_without_calibration_qat_starts_from_float(project):
    text = project.spec.read_text()
    start, end = text.index("  calibration:"), text.index("  qat:")
    project.spec.write_text(text[:start] + text[end:])
    project.edit("horizon_calibrated", "horizon_qat")
    summary = project.run()
    assert [s for s, _ in statuses(summary)] == ["float", "qat", "convert", "compile"]
    assert summary["metrics"]["integer"]["accuracy"] >= 90


def test_without_qat_convert_starts_from_calibration(project):
    text = project.spec.read_text()
    start, end = text.index("  qat:"), text.index("  convert:")
    project.spec.write_text(text[:start] + text[end:])
    summary = project.run()
    assert [s for s, _ in statuses(summary)] == ["float", "calibration", "convert", "compile"]
    assert summary["metrics"]["integer"]["accuracy"] >= 90


def test_16_bits_raise_an_opset_that_nobody_asked_for(project):
    project.edit("qconfig: horizon_calibration", "qconfig: {'': {activation: {dtype: qint16}}}")
    project.edit("qconfig: horizon_calibrated", "qconfig: {'': {activation: {dtype: qint16}}}")
    project.run("stages.float.trainer.epochs=1")
    onnx = pytest.importorskip("onnx")
    file = onnx.load(project.workdir / "convert/toy-qat.onnx")
    assert [o.version for o in file.opset_import] == [21]


def test_every_result_opens_and_the_integer_ones_agree(finished, context):
    images = torch.from_numpy(
        np.stack(
            [context.dataset("val").sample(i, np.random.default_rng(i)).image for i in range(8)]
        )
    )
    outputs = {}
    with torch.no_grad():
        for result in ("float", "calibration", "qat", "integer", "bin"):
            produce = open_model(context, result_file(context, result))
            outputs[result] = np.asarray(produce(images))
            labels = [int(p["label"]) for p in context.decoder()(torch.from_numpy(outputs[result]))]
            assert labels == [0, 1, 2, 3] * 2, result
    np.testing.assert_array_equal(outputs["integer"], outputs["bin"])
    assert sqnr(outputs["qat"], outputs["integer"]) > 30


def test_a_float_checkpoint_does_not_convert(finished, context):
    with pytest.raises(DiagnosticError) as caught:
        open_prepared(context, result_file(context, "float"))
    assert caught.value.diagnostics[0].code == "QS924"


def test_other_files_are_refused(tmp_path):
    with pytest.raises(DiagnosticError) as caught:
        open_integers(tmp_path / "model.onnx")
    assert caught.value.diagnostics[0].code == "QS924"


def test_compare_finds_a_difference(finished):
    program = load_program(finished.workdir / "convert/toy.program")
    binary = Artifact.load(finished.workdir / "compile/toy.bin")
    images = np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32)
    inputs = [program.quantize(images)]
    assert compare(program, binary, inputs).bit_exact

    class Off:
        def run(self, *ints):
            return [out + 3 for out in program.run(*ints)]

    found = compare(program, Off(), inputs)
    assert (found.bit_exact, found.max_lsb) == (False, 3)
    assert "of the largest value of an output" in found.compared


def test_the_distance_is_a_share_of_what_the_output_reaches_on_all_inputs():
    """An output that happens to be near zero on one picture makes no large share."""

    class Gives:
        outputs = ("a", "b")

        def __init__(self, off):
            self.off = off

        def run(self, ints):
            return [np.array([[ints[0]]]) + self.off, np.array([[7 * ints[0]]])]

    found = compare(Gives(0), Gives(2), [[np.array([1])], [np.array([-200])]])
    assert found.max_lsb == 2
    assert found.compared == "2 images, apart by at most 1 % of the largest value of an output"


def test_a_tree_of_outputs_is_what_forward_returns(finished):
    program = load_program(finished.workdir / "convert/toy.program")
    images = torch.zeros(2, 3, 16, 16)
    tree = produce_with(program, {"a": [0], "b": 0})(images)
    assert tree["a"][0].shape == tree["b"].shape == (2, 4, 1, 1)


def test_prepared_models_lose_nothing_of_the_task(finished, context):
    prepared = prepare_spec(context.spec, "qat", context.build_model())
    assert callable(prepared.model.loss) and callable(prepared.model.predict)


def test_a_stage_has_a_batch_size_of_its_own(project):
    project.run("stages.qat.batch_size_per_gpu=4", "stages.calibration.batch_size_per_gpu=2")
    steps = {
        stage: load(project.workdir / stage / f"{stage}-checkpoint-last.pth.tar").step
        for stage in ("float", "qat")
    }
    assert steps == {"float": 3 * 32 // 8, "qat": 1 * 32 // 4}


@pytest.mark.parametrize("which", ["a copy", "all of them", "none", "not told"])
def test_pictures_of_both_train_and_val_are_told(which, context, monkeypatch, tmp_path):
    train, val = context.dataset("train"), context.dataset("val")
    files = [tmp_path / name for name in ("a.png", "b.png", "c.png", "copy.png")]
    for path, content in zip(files, (b"a", b"b", b"c", b"a"), strict=True):
        path.write_bytes(content)
    if which != "not told":
        monkeypatch.setattr(train, "pictures", files[:2], raising=False)
        other = {"a copy": files[2:], "all of them": files[:2], "none": files[2:3]}[which]
        monkeypatch.setattr(val, "pictures", other, raising=False)
    told = context._in_both("val", val)
    assert [d.code for d in told] == ["QS965"] * (which == "a copy")
    if told:
        assert "copy.png" in told[0].message and "a.png" in told[0].message
        assert told[0].at == context.spec.data["val"].dataset.at


def test_a_class_has_one_label_in_every_role(context, monkeypatch):
    train, val = context.dataset("train"), context.dataset("val")
    assert list(train.classes) == list(val.classes)
    context._datasets.pop("val")
    monkeypatch.setattr(train, "classes", ["added", *train.classes])
    with pytest.raises(DiagnosticError) as caught:
        context.dataset("val")
    (found,) = caught.value.diagnostics
    assert found.code == "QS918" and "label 0 in `val` and 1 in `train`" in found.message


def test_weights_of_a_checkpoint_start_with_the_metrics_that_it_was_judged_by(project):
    project.edit("    trainer:\n      epochs: 3", "    trainer:\n      epochs: 1")
    judged = project.run("stages.float.trainer.ema=0.99", step="float")["metrics"]["float"]
    source = project.workdir / "float/float-checkpoint-best.pth.tar"
    checkpoint = load(source)
    weights = source.rename(project.folder / "weights.pth.tar")
    project.workdir = project.folder / "other"
    project.run(
        f"stages.float.solver.weights={weights}", "stages.float.trainer.epochs=0", step="float"
    )
    begun = load(project.workdir / "float/float-checkpoint-best.pth.tar")
    assert begun.metrics == judged
    assert any(not torch.equal(v, checkpoint.weights[k]) for k, v in checkpoint.state_dict.items())
    for key, value in checkpoint.weights.items():
        assert torch.equal(begun.weights[key], value), key


@pytest.mark.parametrize(
    ("sections", "ends"),
    [
        (["compiled.blob", "model.onnx"], [".onnx"]),
        (["context.onnx"], [".onnx"]),
        (["model.tflite", "model_vela.tflite"], [".tflite", "_vela.tflite"]),
        (["model.tflite", "other.onnx"], [".tflite", ".onnx"]),
        (["first.onnx", "second.onnx"], ["-first.onnx", "-second.onnx"]),
    ],
    ids=lambda names: names[-1],
)
def test_files_for_runtimes_have_names_of_their_own(sections, ends):
    assert list(endings(sections).values()) == ends
