"""An interrupted training resumes from its newest intact checkpoint, and a finished stage outlives
one damaged file."""

from __future__ import annotations

import json

import pytest

from qatspec.diag import DiagnosticError
from qatspec.plan import status
from tests.unit.engine.test_execute import STAGES, Killed, statuses, tree
from tests.unit.engine.test_kept import codes, dies_at, messages, started, words

EPOCHS = "stages.float.trainer.epochs={}".format


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])


def sidecar(path):
    return path.with_name(f"{path.name}.sha256")


DAMAGE = {
    "cut": cut,
    "flipped": flip,
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
    "foreign": lambda path: path.write_bytes(b"PK\x03\x04 not an archive"),
    "no sidecar": lambda path: sidecar(path).unlink(),
    "wrong sidecar": lambda path: sidecar(path).write_text(f"{'0' * 64}  {path.name}\n"),
    "garbage in the sidecar": lambda path: sidecar(path).write_bytes(b"\xff\0"),
    "both gone": lambda path: (path.unlink(), sidecar(path).unlink()),
}


def interrupted(project, step: int = 10):
    with pytest.raises(Killed):
        project.run(step="float", on_event=dies_at("float", step))
    return project.workdir / "float"


@pytest.mark.parametrize("harm", DAMAGE)
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(project, finished, harm):
    folder = interrupted(project)
    DAMAGE[harm](folder / "float-checkpoint-last.pth.tar")
    kept_step = 9 if harm in ("no sidecar", "garbage in the sidecar") else 8
    expected = "epoch 3, step 10" if kept_step == 9 else "epoch 3"
    assert words(project)["float"] == f"resumes at {expected}"
    project.run()
    assert started(project)["float"] == kept_step
    assert tree(project.workdir) == tree(finished.workdir)


@pytest.mark.parametrize("harm", ["cut", "gone", "wrong sidecar"])
@pytest.mark.parametrize(
    ("damaged", "resumed"),
    [
        (["best"], 9),  # restored from the epoch that it is
        (["last", "best"], 8),
        (["last", "epoch-0002"], None),
        (["last", "epoch-0001"], 8),
        (["epoch-0001"], 9),
    ],
)
def test_several_damaged_checkpoints(project, finished, damaged, resumed, harm):
    folder = interrupted(project)
    for which in damaged:
        DAMAGE[harm](folder / f"float-checkpoint-{which}.pth.tar")
    project.run()
    if resumed is not None:
        assert started(project)["float"] == resumed
    assert started(project)["float"] >= 4
    found, expected = tree(project.workdir), tree(finished.workdir)
    lost = "float/float-checkpoint-epoch-0001.pth.tar"
    differing = {k for k in expected.keys() | found.keys() if found.get(k) != expected.get(k)}
    assert differing <= ({lost, f"{lost}.sha256"} if "epoch-0001" in damaged else set())


def test_without_an_intact_checkpoint_it_starts_anew_and_keeps_what_there_is(project, finished):
    folder = interrupted(project)
    for path in folder.glob("*.pth.tar"):
        cut(path)
    assert words(project)["float"] == "starts from the beginning: no checkpoint is intact"
    project.run()
    assert started(project)["float"] is None
    assert codes(project) == ["QS933"]
    (kept,) = (project.workdir / ".kept").iterdir()
    assert kept.name.endswith(".damaged") and len(list(kept.glob("*.pth.tar"))) == 4
    assert tree(project.workdir) == tree(finished.workdir)


@pytest.mark.parametrize("dies_after", [5, 9, 12])
@pytest.mark.parametrize("epochs", [2, 5])
def test_a_training_of_another_length_continues(project, tmp_path, epochs, dies_after):
    """The schedule is constant: 3 epochs are the first 3 of any number."""
    interrupted(project, dies_after)
    before = tree(project.workdir)
    project.run(EPOCHS(epochs), step="float")
    newest = {5: 4, 9: 8, 12: 9}[dies_after]
    assert started(project)["float"] == min(newest, epochs * 4)
    assert "continues at" in messages(project)
    fresh = type(project)(tmp_path / "fresh")
    fresh.run(EPOCHS(epochs), step="float")
    assert tree(project.workdir / "float") == tree(fresh.workdir / "float")
    (kept,) = (project.workdir / ".kept").iterdir()
    assert {f"float/{k}": v for k, v in tree(kept).items()} == before


def test_more_epochs_after_the_end(copy):
    before = tree(copy.workdir)
    assert words(copy, EPOCHS(4))["float"] == "continues at epoch 4 from float"
    copy.run(EPOCHS(4), step="float")
    assert started(copy) == {"float": 12}
    copy.run()
    assert statuses(copy.run()) == [(name, "cached") for name in STAGES]
    assert tree(copy.workdir) == before


def test_run_continues_from_where_plan_says(copy):
    """Two kept trainings come to the same checkpoint: plan and run choose the same one."""
    copy.run(EPOCHS(4), step="float")
    copy.run(step="float")
    said = words(copy, EPOCHS(2))["float"]
    own = copy.plan().step("float").digest[:16]
    copy.run(EPOCHS(2), step="float")
    assert said.replace("from float", f"from .kept/float-{own}") in messages(copy)


def test_a_stage_of_which_one_small_file_is_lost_is_said_to_end(copy):
    (copy.workdir / "calibration/calibration-decisions.json").unlink()
    said = words(copy)
    assert said["calibration"] == "resumes at its end"


def test_a_training_without_a_record_of_its_settings_is_named(copy):
    folder = copy.workdir / "float"
    for name in ("begun.json", "step.json"):
        (folder / name).unlink()
    first, *_ = status(copy.plan("vars.lr=0.01"), copy.workdir)
    assert [change.text for change in first.because] == [
        "nothing in its folder says with which settings it was made"
    ]


@pytest.mark.parametrize(
    ("settings", "epochs", "resumed"),
    [
        ((), 5, 12),
        (("stages.float.trainer.validate_epochs=2",), 5, 8),  # 3 validates at its end, 5 does not
        (("stages.float.trainer.validate_epochs=3",), 5, 12),
        (("stages.float.trainer.batch_norm={freeze_from_epoch: 1}",), 5, 12),
        (("stages.float.trainer.scheduler={type: step, epochs: [2, 4]}",), 5, 12),
        (("stages.float.trainer.scheduler={type: cosine}",), 5, None),
    ],
)
def test_it_continues_where_the_longer_training_would_have_the_same_bytes(
    project, tmp_path, settings, epochs, resumed
):
    project.run(*settings, step="float")
    project.run(*settings, EPOCHS(epochs), step="float")
    assert started(project) == {"float": resumed}
    fresh = type(project)(tmp_path / "fresh")
    fresh.run(*settings, EPOCHS(epochs), step="float")
    assert tree(project.workdir / "float") == tree(fresh.workdir / "float")


def test_other_changes_beside_the_length_start_anew(project):
    interrupted(project)
    project.run(EPOCHS(4), "vars.lr=0.04", step="float")
    assert started(project) == {"float": None}


@pytest.mark.parametrize(
    ("which", "harm"),
    [
        *((w, h) for w in ("best", "last") for h in DAMAGE),
        ("epoch-0001", "cut"),
        ("epoch-0003", "gone"),
    ],
)
def test_one_damaged_checkpoint_of_a_finished_stage_does_not_train_again(copy, which, harm):
    before = tree(copy.workdir)
    DAMAGE[harm](copy.workdir / f"float/float-checkpoint-{which}.pth.tar")
    assert statuses(copy.run()) == [(name, "cached") for name in STAGES]
    has_twin = before[f"float/float-checkpoint-{which}.pth.tar"] in [
        v for k, v in before.items() if k != f"float/float-checkpoint-{which}.pth.tar"
    ]
    if has_twin or "sidecar" in harm:
        assert tree(copy.workdir) == before
    else:
        assert set(codes(copy)) == {"QS931"} and "nothing needs it" in messages(copy)
        assert statuses(copy.run()) == [(name, "cached") for name in STAGES]
        assert not codes(copy), "it was told"


def test_each_lost_file_is_told_once(copy):
    folder = copy.workdir / "float"
    first, second = (folder / f"float-checkpoint-epoch-000{n}.pth.tar" for n in (1, 2))
    content = first.read_bytes()
    first.unlink()
    copy.run()
    second.unlink()
    copy.run()
    assert codes(copy) == ["QS931"] and second.name in messages(copy)
    first.write_bytes(content)  # it is there again, and lost again
    copy.run()
    assert not codes(copy)
    first.unlink()
    copy.run()
    assert codes(copy) == ["QS931"] and first.name in messages(copy)


def _one_number(text: str) -> str:
    record = json.loads(text)
    record["metrics"]["accuracy"] += 1
    return json.dumps(record)


def _one_letter(text: str) -> str:
    return text.replace('"kind": "checkpoint"', '"kind": "checkpoimt"', 1)


@pytest.mark.parametrize("change", [_one_number, _one_letter])
def test_a_record_that_was_changed_is_no_record(copy, change):
    """The stage goes on from its last checkpoint, and writes its record again."""
    path = copy.workdir / "float/step.json"
    before, text = tree(copy.workdir), path.read_text()
    path.write_text(change(text))
    assert dict(statuses(copy.run())) == {**dict.fromkeys(STAGES, "cached"), "float": "run"}
    assert tree(copy.workdir) == before
    assert json.loads(path.read_text())["metrics"] == json.loads(text)["metrics"]


def test_a_record_of_before_there_were_checksums_is_read(copy):
    for path in copy.workdir.glob("*/step.json"):
        record = json.loads(path.read_text())
        assert len(record.pop("sha256")) == 64
        path.write_text(json.dumps(record))
    assert statuses(copy.run()) == [(name, "cached") for name in STAGES]


@pytest.mark.parametrize("name", ["summary.json", "convert/toy.program", "convert/step.json"])
def test_a_folder_in_place_of_a_file_is_named_and_the_advice_works(copy, name):
    path = copy.workdir / name
    path.unlink()
    (path / "inside").mkdir(parents=True)
    try:
        copy.run()
    except DiagnosticError as error:
        (found,) = error.diagnostics
        assert found.code == "QS903" and f"`{path}`" in found.message, found
        assert "move or delete that folder" in found.help
        path.rename(copy.folder / "moved")
        copy.run()
    assert path.is_file()


@pytest.mark.parametrize("stage", ["calibration", "qat"])
@pytest.mark.parametrize("harm", ["cut", "gone"])
def test_a_damaged_file_that_is_no_checkpoint_is_written_again(copy, stage, harm):
    before = tree(copy.workdir)
    DAMAGE[harm](copy.workdir / f"{stage}/{stage}-decisions.json")
    done = dict(statuses(copy.run()))
    assert [name for name in STAGES if done[name] == "run"] == [stage]
    assert started(copy)[stage] == 4  # every step was done
    assert tree(copy.workdir) == before


@pytest.mark.parametrize("file", ["convert/toy-converted.onnx", "compile/toy.bin"])
def test_a_damaged_conversion_is_made_again_alone(copy, file):
    before = tree(copy.workdir)
    flip(copy.workdir / file)
    done = dict(statuses(copy.run()))
    assert [name for name in STAGES if done[name] == "run"] == [file.partition("/")[0]]
    assert tree(copy.workdir) == before


@pytest.mark.parametrize(
    "interrupt",
    ["best", "epoch"],
)
def test_a_kill_between_the_names_of_one_checkpoint(project, finished, interrupt):
    """A checkpoint is written as best, epoch and last, in this order."""
    folder = interrupted(project, 9)
    gone = ["last"] if interrupt == "epoch" else ["last", "epoch-0002"]
    for which in gone:
        DAMAGE["both gone"](folder / f"float-checkpoint-{which}.pth.tar")
    if interrupt == "best":  # the second epoch is the best one
        best, last = (folder / f"float-checkpoint-{w}.pth.tar" for w in ("best", "epoch-0001"))
        assert best.exists() and last.exists()
    project.run()
    assert tree(project.workdir) == tree(finished.workdir)
