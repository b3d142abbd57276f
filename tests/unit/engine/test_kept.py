"""Results of other settings: set aside, returned, bounded, and never lost in between."""

from __future__ import annotations

import pytest

from qatspec.engine import kept
from qatspec.plan import plan_data, plan_table, status
from tests.unit.engine.test_execute import STAGES, Killed, statuses, tree

OTHER = "stages.qat.trainer.optimizer.lr=0.002"


def dies_at(stage: str, step: int):
    def listen(event) -> None:
        at = (event.kind, event.step, event.data.get("unit"), event.data.get("done"))
        if at == ("progress", stage, "step", step):
            raise Killed

    return listen


def messages(project) -> str:
    return "\n".join(e.data["message"] for e in project.events if e.kind == "log")


def codes(project) -> list[str]:
    return [e.data["diagnostic"].code for e in project.events if "diagnostic" in e.data]


def started(project) -> dict[str, int | None]:
    found = (e for e in project.events if e.kind == "step_started")
    return {e.step: e.data["resumed_from"] for e in found}


def words(project, *overrides: str, **options) -> dict[str, str]:
    plan = project.plan(*overrides)
    steps = plan_data(plan, status(plan, project.workdir))["steps"]
    return {s["name"]: s["does"] for s in steps}


def test_going_back_to_earlier_settings_costs_nothing(copy):
    first = tree(copy.workdir)
    assert dict(statuses(copy.run(OTHER)))["qat"] == "run"
    assert "qat with other settings is kept as .kept/qat-" in messages(copy)
    second = tree(copy.workdir)
    assert second != first
    assert words(copy)["qat"].startswith("returns from .kept/qat-")
    assert statuses(copy.run()) == [(name, "cached") for name in STAGES]
    assert "qat returns from .kept/qat-" in messages(copy)
    assert tree(copy.workdir) == first
    assert statuses(copy.run(OTHER)) == [(name, "cached") for name in STAGES]
    assert tree(copy.workdir) == second


def test_the_table_says_why_a_step_starts_anew_and_where_the_old_one_is_kept(copy):
    copy.edit("lr: 0.001", "lr: 0.002")
    plan = copy.plan()
    table = plan_table(plan, status(plan, copy.workdir))
    assert f"starts from the beginning because {copy.spec}:" in table
    assert "lr: 0.001 -> 0.002; the old one is kept as .kept/qat-" in table


def test_an_unfinished_training_returns_and_resumes(project):
    with pytest.raises(Killed):
        project.run(step="float", on_event=dies_at("float", 10))
    project.run("vars.lr=0.04", step="float")
    assert started(project) == {"float": None}
    assert "the unfinished training of float with other settings is kept" in messages(project)
    assert words(project)["float"].startswith("resumes at epoch 3, step 10 from .kept/float-")
    project.run(step="float")
    assert started(project) == {"float": 9}


@pytest.mark.parametrize("settings", ["vars.lr=0.04", "seed=4", "stages.float.trainer.ema=0.5"])
def test_kept_trainings_end_with_the_bytes_of_an_undisturbed_one(project, finished, settings):
    with pytest.raises(Killed):
        project.run(step="float", on_event=dies_at("float", 10))
    with pytest.raises(Killed):
        project.run(settings, step="float", on_event=dies_at("float", 5))
    project.run()
    assert tree(project.workdir) == tree(finished.workdir)


@pytest.mark.parametrize("number", range(8))
def test_a_kill_before_any_move_loses_nothing(copy, monkeypatch, number):
    """A run of other settings moves qat, convert and compile; going back moves six folders."""
    before, move = tree(copy.workdir), kept.move
    copy.run(OTHER)
    moved = 0

    def killed(source, target) -> None:
        nonlocal moved
        if moved == number:
            raise Killed
        moved += 1
        move(source, target)

    monkeypatch.setattr(kept, "move", killed)
    if number < 6:
        with pytest.raises(Killed):
            copy.run()
    else:
        copy.run()
    monkeypatch.setattr(kept, "move", move)
    assert statuses(copy.run()) == [(name, "cached") for name in STAGES]
    assert tree(copy.workdir) == before
    assert statuses(copy.run(OTHER)) == [(name, "cached") for name in STAGES]


def test_the_oldest_kept_results_are_removed_and_reported(project, monkeypatch):
    monkeypatch.setattr(kept, "KEPT_RESULTS", 2)
    with pytest.raises(Killed):
        project.run(step="float", on_event=dies_at("float", 10))
    found = []
    for lr in (0.01, 0.02, 0.03, 0.04):
        project.run(f"vars.lr={lr}", step="float")
        found.append((codes(project), "is removed" in messages(project)))
    # the third removes the training that was killed, the fourth a finished one
    assert found == [([], False), ([], False), (["QS932"], True), ([], True)]
    assert len(list((project.workdir / ".kept").iterdir())) == 2
    assert started_again(project, "vars.lr=0.03") == {}


def started_again(project, *overrides: str) -> dict[str, int | None]:
    project.run(*overrides, step="float")
    return started(project)


def test_results_of_other_stages_do_not_push_a_training_out(project, monkeypatch):
    monkeypatch.setattr(kept, "KEPT_RESULTS", 1)
    project.run()
    for level in ("O1", "O2", "O3"):
        project.run("vars.lr=0.02", f"stages.compile.opt={level}")
    assert statuses(project.run())[0] == ("float", "cached")


def test_kept_bytes_are_bounded(project, monkeypatch):
    monkeypatch.setattr(kept, "KEPT_BYTES", 1)
    for lr in (0.01, 0.02, 0.03):
        project.run(f"vars.lr={lr}", step="float")
    assert len(list((project.workdir / ".kept").iterdir())) == 1
    assert started_again(project, "vars.lr=0.02") == {}


def test_a_clock_that_is_set_back_does_not_make_the_newest_the_oldest(project, monkeypatch):
    monkeypatch.setattr(kept, "KEPT_RESULTS", 1)
    now = kept.time.time_ns()
    for lr, clock in ((0.01, now), (0.02, now), (0.03, now - 10**17)):
        monkeypatch.setattr(kept.time, "time_ns", lambda clock=clock: clock)
        project.run(f"vars.lr={lr}", step="float")
    assert started_again(project, "vars.lr=0.02") == {}


def test_a_training_without_a_checkpoint_leaves_nothing_to_keep(project):
    with pytest.raises(Killed):
        project.run(step="float", on_event=dies_at("float", 1))
    assert words(project)["float"] == "starts"
    project.run(step="float")
    assert codes(project) == [] and not (project.workdir / ".kept").exists()
    with pytest.raises(Killed):
        project.run("vars.lr=0.04", step="float", on_event=dies_at("float", 1))
    project.run("vars.lr=0.03", step="float")
    assert len(list((project.workdir / ".kept").iterdir())) == 1  # the finished one


def test_what_an_interrupted_conversion_leaves_is_removed(copy):
    before = tree(copy.workdir)
    (copy.workdir / "convert/step.json").unlink()
    (copy.workdir / "convert/opened.jsonl").write_text("")
    (copy.workdir / "convert/toy-part.onnx").write_text("")
    (copy.workdir / "float/opened.jsonl").write_text("")
    copy.run()
    assert tree(copy.workdir) == before


def test_kept_results_of_another_version_are_no_hindrance(copy):
    folder = copy.workdir / ".kept/float-0123"
    folder.mkdir(parents=True)
    (folder / "step.json").write_text('{"format": 99}')
    assert statuses(copy.run()) == [(name, "cached") for name in STAGES]


def test_a_removal_that_was_cut_off_is_finished(copy):
    left = copy.workdir / ".kept/.removed-float-0123"
    left.mkdir(parents=True)
    (left / "step.json").write_text("{}")
    copy.run(OTHER)
    assert not left.exists()


def test_one_step_takes_its_predecessor_from_kept(copy):
    copy.run("vars.lr=0.04", step="float")
    copy.run(OTHER, step="qat")
    assert codes(copy) == [] and started(copy) == {"qat": None}
    assert "float returns from .kept/float-" in messages(copy)


def test_a_training_of_the_former_layout_is_kept(copy):
    """Earlier versions trained in `<stage>.next` beside finished results."""
    for stage in ("qat", "float"):
        (copy.workdir / stage).rename(copy.workdir / f"{stage}.next")
        (copy.workdir / f"{stage}.next/begun.json").unlink()
    (copy.workdir / "qat.next/step.json").unlink()
    (copy.workdir / "float.old").mkdir()
    before = {k for k in tree(copy.workdir) if k.startswith("qat.next")}
    assert dict(statuses(copy.run()))["float"] == "cached"
    assert started(copy) == {"qat": 4}
    assert before and not list(copy.workdir.glob("*.next")) + list(copy.workdir.glob("*.old"))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[]",
        '{"format": 2}',
        "\0",
        '{"format": 2, "outputs": [], "metrics": {}}',
        '{"format": 2, "digest": "", "outputs": {"float/a": 3}, "metrics": {}}',
        '{"format": 2, "digest": "", "outputs": {"a/../../b": {"size": 1, "sha256": ""}}}',
    ],
)
@pytest.mark.parametrize("stage", ["float", "convert"])
def test_a_damaged_record_does_not_train_again(copy, stage, content):
    before = tree(copy.workdir)
    (copy.workdir / stage / "step.json").write_text(content)
    done = dict(statuses(copy.run()))
    assert [name for name in STAGES if done[name] == "run"] == [stage]
    assert started(copy) == {"float": 12} if stage == "float" else {"convert": None}
    assert tree(copy.workdir) == before
