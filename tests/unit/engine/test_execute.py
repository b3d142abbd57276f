from __future__ import annotations

import fcntl
import hashlib
import json
from dataclasses import replace

import jsonschema
import numpy as np
import pytest

from qatspec.diag import DiagnosticError
from qatspec.program import Artifact, load_program

STAGES = ["float", "calibration", "qat", "convert", "compile"]


def tree(folder) -> dict[str, str]:
    """Digests of every file that is a result of the spec that ran last."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
        and p.name not in ("step.json", "summary.json")
        and not p.relative_to(folder).parts[0].startswith((".", "logs"))
    }


def statuses(summary) -> list[tuple[str, str]]:
    return [(s["stage"], s["status"]) for s in summary["steps"]]


def code_of(caught) -> str:
    return caught.value.diagnostics[0].code


def test_a_whole_run(finished):
    summary = finished.summary
    assert statuses(summary) == [(name, "run") for name in STAGES]
    assert set(summary["metrics"]) == {"float", "calibration", "qat", "integer"}
    assert summary["metrics"]["float"]["accuracy"] >= 90
    assert summary["metrics"]["integer"]["accuracy"] >= 90
    assert set(summary["delta_to_float"]) == {"calibration", "qat", "integer"}
    paths = {a["path"] for a in summary["artifacts"]}
    for step in finished.plan().steps:
        assert set(step.outputs) <= paths
    exact = {a["path"]: a["bit_exact"] for a in summary["artifacts"]}
    assert exact["compile/toy.bin"] is True
    assert exact["convert/toy-converted.onnx"] is True
    (figures,) = summary["performance"]
    assert figures["march"] == "bayes"
    assert figures["latency_ms"] > 0 < figures["fps"]
    assert summary["environment"]["device"] == "cpu"
    assert json.loads((finished.workdir / "summary.json").read_text()) == summary


def test_the_summary_obeys_its_schema(finished):
    from importlib.resources import files

    schema = json.loads((files("qatspec_schemas") / "summary-1.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(finished.summary)


def test_bin_and_program_give_the_same_integers(finished):
    program = load_program(finished.workdir / "convert/toy.program")
    binary = Artifact.load(finished.workdir / "compile/toy.bin")
    images = np.random.default_rng(0).normal(size=(3, 3, 16, 16)).astype(np.float32)
    ints = program.quantize(images)
    for mine, theirs in zip(program.run(*ints), binary.run(*ints), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_two_runs_give_the_same_bytes(finished, project):
    project.run()
    assert tree(project.workdir) == tree(finished.workdir)


def test_a_second_run_is_cached(copy):
    before = tree(copy.workdir)
    summary = copy.run()
    assert statuses(summary) == [(name, "cached") for name in STAGES]
    assert summary["steps"][0]["cached_from"] == "float/step.json"
    assert tree(copy.workdir) == before


def test_a_changed_setting_reruns_what_rests_on_it(copy):
    copy.edit("lr: 0.001", "lr: 0.002")
    summary = copy.run()
    expected = ["cached", "cached", "run", "run", "run"]
    assert statuses(summary) == list(zip(STAGES, expected, strict=True))


@pytest.mark.parametrize("harm", ["cut", "gone", "flipped"])
def test_a_damaged_output_is_made_again(copy, finished, harm):
    path = copy.workdir / "convert/toy.program"
    data = path.read_bytes()
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if harm == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    assert dict(statuses(copy.run()))["convert"] == "run"
    assert path.read_bytes() == data


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    ("stage", "dies_after", "goes_on_from"), [("float", 8, 6), ("calibration", 3, 2), ("qat", 4, 3)]
)
def test_a_broken_off_run_goes_on_to_the_same_bytes(
    project, finished, stage, dies_after, goes_on_from
):
    def die(event) -> None:
        at = (event.kind, event.step, event.data.get("unit"), event.data.get("done"))
        if at == ("progress", stage, "step", dies_after):
            raise Killed

    plan = project.plan()  # checkpoints this often where the spec language has no key for it
    stages = dict(plan.spec.stages)
    trainer = replace(stages["calibration"].trainer, checkpoint_steps=2)
    stages["calibration"] = replace(stages["calibration"], trainer=trainer)
    plan = replace(plan, spec=replace(plan.spec, stages=stages))
    with pytest.raises(Killed):
        project.run(plan=plan, on_event=die)
    assert not (project.workdir / stage / "step.json").exists()
    failed = json.loads((project.workdir / "summary.json").read_text())
    assert statuses(failed)[-1] == (stage, "failed")
    project.run()
    (started,) = [e for e in project.events if e.kind == "step_started" and e.step == stage]
    assert started.data["resumed_from"] == goes_on_from
    assert tree(project.workdir) == tree(finished.workdir)


def test_a_broken_off_step_of_other_settings_starts_over(project):
    def die(event) -> None:
        if event.kind == "progress" and (event.data["unit"], event.data["done"]) == ("step", 8):
            raise Killed

    with pytest.raises(Killed):
        project.run(step="float", on_event=die)
    project.run("vars.lr=0.04", step="float")
    (started,) = [e for e in project.events if e.kind == "step_started"]
    assert started.data["resumed_from"] is None


def test_a_failing_rerun_leaves_earlier_results(copy):
    before = tree(copy.workdir)
    copy.edit("lr: 0.001", "lr: 1.0e+37")
    with pytest.raises(DiagnosticError) as caught:
        copy.run()
    assert code_of(caught) == "QS904"
    assert caught.value.diagnostics[0].at == "/stages/qat/trainer"
    failed = json.loads((copy.workdir / "summary.json").read_text())
    assert statuses(failed)[-1] == ("qat", "failed")
    copy.edit("lr: 1.0e+37", "lr: 0.001")
    assert statuses(copy.run()) == [(name, "cached") for name in STAGES]
    assert tree(copy.workdir) == before


def test_one_step_needs_its_predecessor(project):
    with pytest.raises(DiagnosticError) as caught:
        project.run(step="calibration")
    (found,) = caught.value.diagnostics
    assert found.code == "QS905"
    assert f"qatspec run {project.spec} --workdir {project.workdir} --step float" in found.help
    assert "--step calibration --with-deps" in found.help
    summary = project.run(step="calibration", with_deps=True)
    assert statuses(summary) == [("float", "run"), ("calibration", "run")]
    summary = project.run(step="qat")
    assert statuses(summary) == [("float", "cached"), ("calibration", "cached"), ("qat", "run")]


def test_one_step_takes_a_predecessor_of_other_settings_with_a_warning(copy):
    before = json.loads((copy.workdir / "float/step.json").read_text())["gives"]["best"]
    copy.edit("lr: 0.05", "lr: 0.04")
    copy.run(step="calibration")
    warned = [e.data["diagnostic"] for e in copy.events if "diagnostic" in e.data]
    assert [d.code for d in warned] == ["QS927"] and "stage float" in warned[0].message
    record = json.loads((copy.workdir / "calibration/step.json").read_text())
    assert record["keys"]["input:float"] == before
    assert ("calibration", "cached") in statuses(copy.run(step="calibration"))
    # a whole run is not deceived: float is made anew, and calibration from it
    assert statuses(copy.run())[:2] == [("float", "run"), ("calibration", "run")]


@pytest.mark.parametrize("step", ["qat", "convert", "compile"])
def test_one_step_warns_of_other_settings_of_every_stage_before_it(copy, step):
    copy.run("vars.lr=0.04", step=step)
    warned = [e.data["diagnostic"] for e in copy.events if "diagnostic" in e.data]
    assert [d.code for d in warned] == ["QS927"] and "of stage float" in warned[0].message


def test_a_summary_lists_no_result_that_was_made_of_other_settings(copy):
    summary = copy.run("stages.calibration.trainer.steps=3", step="calibration")
    assert statuses(summary) == [("float", "cached"), ("calibration", "run")]


def test_one_step_refuses_a_damaged_predecessor(copy):
    for path in (copy.workdir / "float").glob("*.pth.tar"):
        path.write_bytes(b"cut")
    (copy.workdir / "calibration/step.json").unlink()
    with pytest.raises(DiagnosticError, match="float, whose result is damaged"):
        copy.run(step="calibration")


def test_a_stage_that_the_spec_lacks(project):
    project.edit("  compile: {opt: O3}\n", "")
    with pytest.raises(DiagnosticError) as caught:
        project.run(step="compile")
    assert code_of(caught) == "QS926"


def test_one_work_directory_one_run(project):
    project.workdir.mkdir()
    with (project.workdir / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DiagnosticError) as caught:
            project.run()
    assert code_of(caught) == "QS900"
    assert list(project.workdir.iterdir()) == [project.workdir / ".lock"]


def test_a_work_directory_that_cannot_be_made(project):
    project.workdir.write_text("a file")
    with pytest.raises(DiagnosticError) as caught:
        project.run()
    assert code_of(caught) == "QS903"


def test_an_exchange_that_was_cut_off_is_finished(copy):
    before = tree(copy.workdir)
    (copy.workdir / "float").rename(copy.workdir / "float.next")
    (copy.workdir / "float.old").mkdir()
    summary = copy.run()
    assert dict(statuses(summary))["float"] == "cached"
    assert tree(copy.workdir) == before


def test_a_smoke_run_stays_apart(project):
    summary = project.run(smoke=True)
    assert statuses(summary) == [(name, "run") for name in STAGES]
    assert not project.workdir.exists()
    assert (project.folder / "work-smoke/summary.json").exists()
    assert not [event for event in project.events if event.kind == "advice"]  # on no training
    project.run("stages.qat.trainer.optimizer.lr=1e-9")
    assert [event for event in project.events if event.kind == "advice"]


def test_an_empty_data_set(project):
    with pytest.raises(DiagnosticError) as caught:
        project.run("vars.count=0")
    assert code_of(caught) == "QS909"


def test_two_processes_train_together(project):
    """In a process of its own, as a command would."""
    result = project.command(
        "run", "toy.yaml", "--allow-code", "--step", "qat", "--with-deps", "--nproc", "2",
        "--device", "cpu", "--workdir", "work",
        "--set", "stages.float.trainer.batch_norm=synchronized",
        "--set", "stages.qat.trainer.batch_norm=synchronized",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    summary = json.loads((project.workdir / "summary.json").read_text())
    assert summary["environment"]["nproc"] == 2
    assert summary["metrics"]["qat"]["accuracy"] >= 90


def test_events_hold_what_they_promise(project):
    from qatspec.engine.events import EVENTS

    project.run()
    for event in project.events:
        assert set(EVENTS[event.kind]) <= set(event.data), event
    kinds = [e.kind for e in project.events if e.kind != "log"]
    assert kinds[0] == "run_started" and kinds[-1] == "run_finished"
    assert [e.step for e in project.events if e.kind == "step_finished"] == STAGES
    assert {"progress", "metrics"} < set(kinds)
    (tried,) = [e.data["stages"] for e in project.events if e.kind == "rehearsal"]
    assert tried == STAGES and kinds.index("rehearsal") < kinds.index("step_started")


@pytest.mark.parametrize(
    ("call", "code"),
    [("log_softmax(1)", "QS801"), ("cumprod(1)", "QS701"), ("softmax(0)", "QS701")],
)
def test_what_later_stages_would_refuse_is_told_before_any_training(project, call, code):
    model = next(project.folder.glob("*.py"))
    text = model.read_text()
    assert "self.head(self.stem(images))" in text
    model.write_text(
        text.replace("self.head(self.stem(images))", f"self.head(self.stem(images).{call})")
    )
    project.edit("quantize: {prepare: horizon,", "quantize: {")
    project.edit("compile: {opt: O3}", "compile: {opt: O3, chip_only: true}")  # the CPU runs it
    with pytest.raises(DiagnosticError) as caught:
        project.run()
    assert {d.code for d in caught.value.diagnostics} == {code}
    for found in caught.value.diagnostics:
        assert found.severity == "error" and "`--step float`" in found.help
    assert not (project.workdir / "float").exists()
    summary = json.loads((project.workdir / "summary.json").read_text())
    assert statuses(summary) == [("float", "failed")]
    assert statuses(project.run(step="float")) == [("float", "run")]


def test_too_little_memory_names_the_key_and_a_value_to_try(project):
    """In the model's own code, as on a GPU: the fault is not the plugin's."""
    plugin = project.folder / "toy_plugin.py"
    text = plugin.read_text()
    assert "def loss(self, outputs, targets):\n" in text
    full = "def loss(self, outputs, targets):\n        if len(targets) > 4 and self.training:\n"
    full += "            raise torch.OutOfMemoryError('out of memory')\n"
    plugin.write_text(text.replace("def loss(self, outputs, targets):\n", full))
    with pytest.raises(DiagnosticError) as caught:
        project.run(step="float")
    (found,) = caught.value.diagnostics
    assert found.code == "QS946"
    assert "`batch_size: 8` in stage float" in found.message
    assert "`batch_size: 4`, and `accumulate: 2`" in found.help
    project.edit("batch_size: 8}\n  val", "batch_size: 4}\n  val")
    project.edit("epochs: 3", "epochs: 3\n      accumulate: 2")
    assert statuses(project.run(step="float")) == [("float", "run")]
