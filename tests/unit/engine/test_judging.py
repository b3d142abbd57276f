"""Settings of the evaluation judge kept epochs again, and train nothing."""

from __future__ import annotations

import json

import pytest

from qatspec.diag import DiagnosticError
from tests.unit.engine.test_execute import STAGES, Killed, statuses, tree

JUDGED = ["judged", "judged", "judged", "judged", "cached"]


def trained(project) -> set[str]:
    """The stages that made an optimizer or calibration step."""
    return {e.step for e in project.events if e.data.get("unit") == "step"}


@pytest.fixture
def choosy(project):
    """A project whose metric is the score of the predictions, times a param of data.val: its sign
    decides which epoch is the best."""
    plugin = project.folder / "toy_plugin.py"
    text = plugin.read_text()
    for old, new in (
        ('{"label": scores.flatten().argmax()}',
         '{"label": scores.flatten().argmax(), "score": scores.max()}'),
        ('return {"accuracy": 100.0 * sum(right) / len(right)}',
         'scores = [float(p["score"]) for _, p in predictions]\n'
         '        score = self.sign * sum(scores) / len(scores)\n'
         '        return {"accuracy": 100.0 * sum(right) / len(right), "score": score}'),
        ("def __init__(self, count: int) -> None:",
         "def __init__(self, count: int, sign: int) -> None:\n        self.sign = sign"),
        ('Corners(params["count"])', 'Corners(params["count"], params["sign"])'),
        ("params=schema(count=COUNT)", "params=schema(count=COUNT, sign=SIGN)"),
        ("def schema(", 'SIGN = {"type": "integer", "default": 1, "description": "sign"}\n\n\n'
         "def schema("),
        ('metric="accuracy"', 'metric="score"'),
    ):  # fmt: skip
        assert old in text, old
        text = text.replace(old, new)
    plugin.write_text(text)
    return project


def test_other_settings_of_val_judge_again_as_a_fresh_run_would(copy, project):
    summary = copy.run("data.val.params.count=12", "data.val.batch_size=3")
    assert statuses(summary) == list(zip(STAGES, JUDGED, strict=True))
    assert not trained(copy)
    assert not list(copy.workdir.glob("*.judged")) and not list(copy.workdir.glob("*.old"))
    fresh = project.run("data.val.params.count=12", "data.val.batch_size=3")
    assert tree(copy.workdir) == tree(project.workdir)
    assert fresh["metrics"] == summary["metrics"]
    again = copy.run("data.val.params.count=12", "data.val.batch_size=3")
    assert statuses(again) == [(name, "cached") for name in STAGES]


def test_another_best_epoch_is_what_the_next_stage_starts_from(choosy, tmp_path):
    first = choosy.run()
    best = choosy.workdir / "float/float-checkpoint-best.pth.tar"
    before = best.read_bytes()
    summary = choosy.run("data.val.params.sign=-1")
    assert best.read_bytes() != before
    assert dict(statuses(summary))["float"] == "judged"
    assert dict(statuses(summary))["calibration"] == "run"
    assert trained(choosy) == {"calibration", "qat"}
    assert summary["metrics"]["float"] != first["metrics"]["float"]
    choosy.workdir = tmp_path / "fresh"
    choosy.run("data.val.params.sign=-1")
    assert tree(tmp_path / "fresh") == tree(best.parent.parent)


def test_training_that_goes_on_under_other_settings_chooses_among_all_epochs(choosy, tmp_path):
    def die(event) -> None:
        if (event.kind, event.step, event.data.get("done")) == ("progress", "float", 10):
            raise Killed

    with pytest.raises(Killed):
        choosy.run(on_event=die, step="float")
    choosy.run("data.val.params.sign=-1", step="float")
    (started,) = [e for e in choosy.events if e.kind == "step_started"]
    assert started.data["resumed_from"] == 9
    resumed, choosy.workdir = choosy.workdir, tmp_path / "fresh"
    choosy.run("data.val.params.sign=-1", step="float")
    assert tree(resumed) == tree(choosy.workdir)


def test_a_training_that_is_interrupted_twice_chooses_among_all_epochs(choosy, tmp_path):
    """The checkpoint that it resumes from is judged by the new settings, and older ones are not."""
    epochs = "stages.float.trainer.epochs=4"
    for overrides, step in (((epochs,), 7), ((epochs, "data.val.params.sign=-1"), 14)):
        with pytest.raises(Killed):
            choosy.run(*overrides, on_event=dies_at("float", step), step="float")
    choosy.run(epochs, "data.val.params.sign=-1", step="float")
    (started,) = [e for e in choosy.events if e.kind == "step_started"]
    assert started.data["resumed_from"] == 12
    resumed, choosy.workdir = choosy.workdir, tmp_path / "fresh"
    choosy.run(epochs, "data.val.params.sign=-1", step="float")
    assert tree(resumed) == tree(choosy.workdir)


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_kill_while_the_epochs_of_a_training_are_judged_again(choosy, tmp_path, epoch):
    def die(event) -> None:
        if event.kind == "metrics" and event.data["epoch"] == epoch:
            raise Killed

    with pytest.raises(Killed):
        choosy.run(on_event=dies_at("float", 10), step="float")
    with pytest.raises(Killed):
        choosy.run("data.val.params.sign=-1", on_event=die, step="float")
    choosy.run("data.val.params.sign=-1", step="float")
    (started,) = [e for e in choosy.events if e.kind == "step_started"]
    assert started.data["resumed_from"] == 12
    resumed, choosy.workdir = choosy.workdir, tmp_path / "fresh"
    choosy.run("data.val.params.sign=-1", step="float")
    assert tree(resumed) == tree(choosy.workdir)


def dies_at(stage: str, step: int):
    def listen(event) -> None:
        at = (event.kind, event.step, event.data.get("unit"), event.data.get("done"))
        if at == ("progress", stage, "step", step):
            raise Killed

    return listen


def test_judging_that_was_broken_off_costs_no_training(copy):
    def die(event) -> None:
        if event.kind == "metrics":
            raise Killed

    before = tree(copy.workdir)
    with pytest.raises(Killed):
        copy.run("data.val.params.count=12", on_event=die)
    assert {k: v for k, v in tree(copy.workdir).items() if ".judged" not in k} == before
    summary = copy.run("data.val.params.count=12")
    assert statuses(summary) == list(zip(STAGES, JUDGED, strict=True))
    assert not trained(copy)


@pytest.mark.parametrize("harm", ["gone", "damaged"])
def test_a_lost_epoch_is_told_when_epochs_are_judged_again(copy, harm):
    path = copy.workdir / "float/float-checkpoint-epoch-0002.pth.tar"
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(b"cut")
    assert statuses(copy.run()) == [(name, "cached") for name in STAGES]
    copy.run("data.val.params.count=12")
    warned = [e.data["diagnostic"] for e in copy.events if "diagnostic" in e.data]
    assert [d.code for d in warned] == ["QS936"]
    assert "epoch-0002" in warned[0].message
    assert "float" not in trained(copy)
    copy.run("data.val.params.count=16")
    assert not [e for e in copy.events if "diagnostic" in e.data], "it is told once"


@pytest.mark.parametrize(
    ("override", "anew"),
    [
        ("name=other", ["convert", "compile"]),
        ("march=onnxruntime", ["calibration", "qat", "convert", "compile"]),
        ("model.input.mean=100", ["convert", "compile"]),  # files record it
        ("model.input.scale=0.5", ["calibration", "qat", "convert", "compile"]),
    ],
)
def test_what_float_does_not_depend_on(copy, override, anew):
    overrides = [override]
    if "march" in override:
        overrides.append("stages.compile={}")
    summary = copy.run(*overrides)
    assert [name for name, status in statuses(summary) if status != "cached"] == anew


def test_records_of_another_version_are_not_replaced(copy):
    path = copy.workdir / "float/step.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "format": 1}))
    before = tree(copy.workdir)
    with pytest.raises(DiagnosticError) as caught:
        copy.run()
    (found,) = caught.value.diagnostics
    assert found.code == "QS935" and f"keep `{copy.workdir}`" in found.help
    assert "another --workdir" in found.help
    assert tree(copy.workdir) == before
