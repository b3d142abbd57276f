"""Commands that read results hold them against the spec."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import yaml

from qatspec.plan.results import CHECKSUM, checksum

ALONE = ("--allow-code", "--workdir", "work")
ON = (*ALONE, "--device", "cpu")
#: command -> its arguments; each reads qat's or convert's result
READING = {
    "eval": ("eval", "toy.yaml", "--stage", "qat", *ON),
    "eval of integers": ("eval", "toy.yaml", "--stage", "integer", *ON),
    "eval of a bin": ("eval", "toy.yaml", "--stage", "bin", *ON),
    "eval of a file": (
        "eval", "toy.yaml", "--model", "work/qat/qat-checkpoint-last.pth.tar", *ON,
    ),
    "infer": (
        "infer", "toy.yaml", "--model", "work/convert/toy.program", "--input", "images.npy",
        "--output", "out", *ON,
    ),
    "compare": ("compare", "toy.yaml", "--images", "2", *ALONE),
    "compare with the ONNX": ("compare", "toy.yaml", "--images", "2", "--onnx", *ALONE),
    "sensitivity": ("sensitivity", "toy.yaml", "--stage", "qat", "--images", "2", *ALONE),
    "convert": (
        "convert", "toy.yaml", "--qat-model-path", "work/qat/qat-checkpoint-best.pth.tar",
        "--output-dir", "out", *ALONE,
    ),
    "report": ("report", "work", "--spec", "toy.yaml", "--allow-code"),
}  # fmt: skip
#: an edit of the spec -> the line of it that a message has
EDITS = {
    "qat": ("lr: 0.001", "lr: 0.002", "/stages/qat/trainer/optimizer/lr: 0.001 -> 0.002"),
    "calibration": ("steps: 4", "steps: 3", "/stages/calibration/trainer/steps: 4 -> 3"),
    "float": ("ema: 0.9", "ema: 0.8", "/stages/float/trainer/ema: 0.9 -> 0.8"),
}


@pytest.fixture
def done(copy):
    images = np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32)
    np.save(copy.folder / "images.npy", images)
    return copy


@pytest.mark.parametrize("name", READING)
def test_the_specs_own_results_are_read_without_a_word(done, name):
    result = done.call(*READING[name])
    assert result.returncode == 0 and "QS93" not in result.stderr, result.stderr


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("name", READING)
def test_results_of_other_settings_are_refused(done, name, edit):
    old, new, change = EDITS[edit]
    done.edit(old, new)
    result = done.call(*READING[name])
    assert result.returncode == 1, result.stdout
    assert "error[QS930]" in result.stderr and change in result.stderr, result.stderr
    assert "toy.yaml:" in result.stderr and "--stale" in result.stderr
    assert not (done.folder / "out").exists()


def test_the_command_of_the_fix_names_the_work_directory_of_the_file(done):
    done.edit("lr: 0.001", "lr: 0.002")
    convert = ("convert", "toy.yaml", "--allow-code", *READING["convert"][2:6])
    result = done.call(*convert)
    assert "run `qatspec run toy.yaml --workdir work`" in result.stderr, result.stderr
    assert done.call("run", "toy.yaml", "--workdir", "work", "--allow-code").returncode == 0
    result = done.call(*convert)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", READING)
def test_stale_reads_them_with_a_warning(done, name):
    done.edit("lr: 0.001", "lr: 0.002")
    result = done.call(*READING[name], "--stale")
    assert result.returncode == 0, result.stderr
    assert "warning[QS930]" in result.stderr


def test_what_the_message_says_is_a_way_out(done):
    done.edit("lr: 0.001", "lr: 0.002")
    result = done.call(*READING["eval"])
    assert "run `qatspec run toy.yaml --workdir work` first" in result.stderr
    assert done.call("run", "toy.yaml", *ON).returncode == 0
    for arguments in READING.values():
        assert done.call(*arguments).returncode == 0, arguments


def test_another_spec_of_the_same_name_and_work_directory(done):
    """The last to run does not take the results of the other one away."""
    first = done.call(*READING["eval"]).stdout
    other = done.folder / "other.yaml"
    other.write_text(done.spec.read_text().replace("lr: 0.001", "lr: 1.0"))
    assert done.call("run", "other.yaml", *ON).returncode == 0
    found = done.call(*READING["eval"])
    assert found.returncode == 0, found.stderr
    path, metrics = found.stdout.split("\n", 1)
    assert path.startswith("work/.kept/qat-") and metrics == first.split("\n", 1)[1]
    for name in ("eval of integers", "eval of a bin", "compare with the ONNX", "sensitivity"):
        assert done.call(*READING[name]).returncode == 0, name
    for name in ("eval of a file", "infer", "convert", "report"):
        assert "QS930" in done.call(*READING[name]).stderr, name
    shutil.rmtree(done.workdir / ".kept")
    assert "QS930" in done.call(*READING["eval"]).stderr


@pytest.mark.parametrize("edit", [("count: 32}", "count: 24}"), ("bright", "dim")])
def test_other_data_and_other_plugins_are_other_results(done, edit):
    """The data of the training, and the code of the model."""
    old, new = edit
    file = done.spec if old.startswith("count") else done.folder / "toy_plugin.py"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    result = done.call(*READING["eval"])
    assert result.returncode == 1 and "QS930" in result.stderr


@pytest.mark.parametrize("override", ["data.val.params.count=8", "data.val.batch_size=4", "seed=3"])
def test_settings_that_tensors_do_not_depend_on(done, override):
    assert done.call(*READING["eval"], "--set", override).returncode == 0


def test_what_a_training_ran_on_is_no_other_setting(project):
    for extra in (("--nproc", "2"), ()):
        start = project.command if extra else project.call
        done = start("run", "toy.yaml", *ON, "--step", "float", *extra)
        assert done.returncode == 0, done.stderr
        result = project.call("eval", "toy.yaml", "--stage", "float", *ON)
        assert result.returncode == 0, result.stderr
        shutil.rmtree(project.workdir)


def test_another_version_of_the_software_is_a_warning(done):
    for path in done.workdir.glob("*/step.json"):
        record = json.loads(path.read_text())
        record["keys"]["torch"] = "1.0"
        if "plugin:horizon" in record["keys"]:
            record["keys"]["plugin:horizon"] = "qatspec==0.0.1 abc"
        record["digest"] = "0" * 64
        path.write_text(json.dumps({**record, CHECKSUM: checksum(record)}))
    result = done.call(*READING["eval"])
    assert result.returncode == 0, result.stderr
    assert "warning[QS930]" in result.stderr and "torch changed: 1.0 -> " in result.stderr


def test_a_record_that_contradicts_itself_is_refused(done):
    path = done.workdir / "qat/step.json"
    record = json.loads(path.read_text())
    record["digest"] = "0" * 64
    path.write_text(json.dumps({**record, CHECKSUM: checksum(record)}))
    assert "error[QS930]" in done.call(*READING["eval"]).stderr


def test_an_unfinished_training_is_read_and_held_too(done):
    (done.workdir / "qat/step.json").unlink()
    assert done.call(*READING["eval"]).returncode == 0
    done.edit("lr: 0.001", "lr: 0.002")
    assert "QS930" in done.call(*READING["eval"]).stderr


def test_a_stage_that_the_spec_does_not_have(done):
    text = done.spec.read_text()
    start, end = text.index("  qat:"), text.index("  convert:")
    done.spec.write_text(text[:start] + text[end:])
    result = done.call(*READING["eval"])
    assert result.returncode == 1 and "QS926" in result.stderr


@pytest.mark.parametrize("file", ["convert/toy.program", "convert/toy-qat.onnx", "compile/toy.bin"])
def test_a_file_that_is_not_the_one_that_was_written(done, file):
    path = done.workdir / file
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    command = {
        "convert/toy.program": "eval of integers",
        "convert/toy-qat.onnx": "compare with the ONNX",
        "compile/toy.bin": "eval of a bin",
    }[file]
    result = done.call(*READING[command])
    assert result.returncode == 1 and "QS931" in result.stderr and path.name in result.stderr
    assert done.call("run", "toy.yaml", *ON).returncode == 0
    assert done.call(*READING[command]).returncode == 0
    assert path.read_bytes() == data


def test_a_report_of_another_run_than_the_results(done):
    (done.workdir / "qat/step.json").unlink()
    result = done.call("report", "work")
    assert result.returncode == 1 and "QS930" in result.stderr and "qat" in result.stderr
    assert not (done.workdir / "report.html").exists()
    assert done.call("report", "work", "--stale").returncode == 0


def test_files_outside_of_a_work_directory_have_nothing_to_be_held_against(done):
    shutil.copy(done.workdir / "qat/qat-checkpoint-best.pth.tar", done.folder / "mine.pth.tar")
    done.edit("lr: 0.001", "lr: 0.002")
    result = done.call("eval", "toy.yaml", "--model", "mine.pth.tar", *ON)
    assert result.returncode == 0, result.stderr


def test_a_patch_of_sensitivity_leaves_the_baseline_whole(done):
    before = done.call(*READING["eval"]).stdout
    written = done.call(
        "sensitivity", "toy.yaml", "--images", "2", "--top", "1", "--output", "patch.yaml", *ALONE
    )
    assert written.returncode == 0, written.stderr
    content = yaml.safe_load((done.folder / "patch.yaml").read_text())
    assert content["name"] == "toy-patch"
    assert written.stdout.splitlines()[-1] == "  qatspec run patch.yaml --workdir work"
    ran = done.call("run", "patch.yaml", *ON)
    assert ran.returncode == 0, ran.stderr
    summary = json.loads((done.workdir / "summary.json").read_text())
    assert [s["status"] for s in summary["steps"]] == ["cached", *["run"] * 4]
    assert done.call(*READING["eval"]).stdout.split("\n", 1)[1] == before.split("\n", 1)[1]
    assert done.call("run", "toy.yaml", *ON).returncode == 0
    summary = json.loads((done.workdir / "summary.json").read_text())
    assert [s["status"] for s in summary["steps"]] == ["cached"] * 5
    assert done.call(*READING["eval"]).stdout == before


def test_the_report_of_a_smoke_run(project):
    """Its results are held against the smoke plan; the advice names the command that made them."""
    run = ("run", "toy.yaml", "--workdir", "work", "--smoke", "--device", "cpu", "--allow-code")
    assert project.call(*run).returncode == 0
    report = ("report", "work-smoke", "--images", "2", "--spec", "toy.yaml", "--allow-code")
    made = project.call(*report)
    assert (made.returncode, made.stderr) == (0, "")
    project.edit("ema: 0.9", "ema: 0.8")
    stale = project.call(*report)
    assert stale.returncode == 1
    assert "/stages/float/trainer/ema: 0.9 -> 0.8" in stale.stderr
    advice = " ".join(stale.stderr.replace("=", " ").split())
    assert "`qatspec run toy.yaml --workdir work --smoke`" in advice
    assert project.call(*run).returncode == 0
    assert project.call(*report).returncode == 0
