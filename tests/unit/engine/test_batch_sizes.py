"""`batch_size: auto`: chosen by the first run, recorded, and the number ever after."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from qatspec.diag import DiagnosticError
from qatspec.engine.job import Job
from qatspec.plan import resolve, with_recorded_sizes
from qatspec.stages import batch_size
from qatspec.train.distributed import ALONE
from qatspec.train.memory import LiveTensors

AUTO = "data.train.batch_size=auto"
FILE = "batch-sizes.json"


def chosen(project) -> dict[str, int]:
    record = json.loads((project.workdir / FILE).read_text())
    return {at: one["size"] for at, one in record["chosen"].items()}


def run(project, *overrides: str, **options):
    """Run the float stage, which evaluates its first weights and trains nothing."""
    epochs = "stages.float.trainer.epochs=0"
    return project.run(AUTO, epochs, *overrides, step="float", **options)


def context_of(project, *overrides: str):
    job = Job(project.plan(*overrides), "float", project.workdir, project.workdir, "cpu", False, 1)
    return job.context(ALONE)


def test_a_run_chooses_once_and_its_results_are_those_of_the_number(project):
    many = "data.train.params.count=256"
    summary = run(project, many)
    assert chosen(project) == {"/data/train/batch_size": 16}
    assert [s["status"] for s in summary["steps"]] == ["run"]
    messages = [e.data["message"] for e in project.events if e.kind == "log"]
    (told,) = [m for m in messages if "auto" in m]
    assert "`batch_size: auto` of data.train is 16" in told and FILE in told
    for number in ((), ("data.train.batch_size=16",)):
        assert [s["status"] for s in run(project, many, *number)["steps"]] == ["cached"]
    plan = resolve(with_recorded_sizes(project.load(AUTO, many), project.workdir))
    assert plan.digest == project.plan("data.train.batch_size=16", many).digest


def test_the_smallest_of_what_the_stages_need_is_taken(project, monkeypatch):
    """A step of qat has more tensors than one of float."""
    context = context_of(project, AUTO, "data.train.params.count=1024")
    lines = {}
    for stage in ("float", "qat"):
        with batch_size._trial(context, "train", stage) as trial:
            lines[stage] = trial.measure()
    assert lines["qat"].each > lines["float"].each > 0
    total = int(lines["qat"].of(8) / batch_size.SHARE["cpu"]) + 1
    monkeypatch.setattr(batch_size, "device_memory", lambda device: total)
    one = batch_size.choose_batch_size(context, "train", ["float", "qat"], 1)
    assert (one.size, "a step of qat takes" in one.why) == (8, True)
    two = batch_size.choose_batch_size(context, "train", ["qat"], 2)
    assert two.size < 8  # processes on a CPU share its memory


def test_a_size_that_does_not_fit_when_it_is_tried_is_halved(project, monkeypatch):
    monkeypatch.setattr(batch_size._Trial, "fits", lambda trial, size: size <= 4)
    context = context_of(project, AUTO, "data.train.params.count=256")
    one = batch_size.choose_batch_size(context, "train", ["float"], 1)
    assert one.size == 4 and "a step of float takes" in one.why


def test_memory_that_runs_out_in_a_step_is_no_error(project):
    plugin = project.folder / "toy_plugin.py"
    full = "def loss(self, outputs, targets):\n        if len(targets) > 4:\n"
    full += "            raise torch.OutOfMemoryError('out of memory')\n"
    text = plugin.read_text()
    assert "def loss(self, outputs, targets):\n" in text
    plugin.write_text(text.replace("def loss(self, outputs, targets):\n", full))
    context = context_of(project, AUTO, "data.train.params.count=256")
    assert batch_size.choose_batch_size(context, "train", ["float"], 1).size == 4


def test_an_epoch_keeps_its_steps(project):
    context = context_of(project, AUTO)  # 32 examples
    one = batch_size.choose_batch_size(context, "train", ["float"], 1)
    assert one.size == len(context.dataset("train")) // batch_size.STEPS
    assert "16 steps" in one.why
    assert batch_size.choose_batch_size(context, "train", ["float"], 2).size == 1


def test_a_smoke_run_takes_two_examples_and_records_nothing(project):
    run(project, smoke=True)
    assert not list(project.folder.rglob(FILE))


def test_another_model_is_measured_again_and_a_damaged_record_too(project):
    run(project)
    (project.workdir / FILE).write_text('{"chosen": {"/data/train/batch_size": {"size": 7}}}')
    run(project)
    assert chosen(project)["/data/train/batch_size"] == 2
    (project.workdir / FILE).write_text("{")
    run(project)
    assert chosen(project)["/data/train/batch_size"] == 2


def test_commands_that_read_results_take_the_recorded_size(project):
    project.edit("batch_size: 8}\n  val", "batch_size: auto}\n  val")
    project.edit("epochs: 3", "epochs: 0")
    settings = ("--workdir", project.workdir, "--allow-code")
    before = project.call("plan", project.spec, *settings)
    assert "data.train.batch_size: auto, chosen when `run` begins" in before.stdout
    project.run(step="float")
    after = project.call("plan", project.spec, *settings)
    assert "data.train.batch_size: 2, chosen by the first run" in after.stdout
    assert "cached" in after.stdout
    evaluated = project.call("eval", project.spec, "--stage", "float", *settings)
    assert evaluated.returncode == 0, evaluated.stderr
    (project.workdir / FILE).unlink()
    evaluated = project.call("eval", project.spec, "--stage", "float", *settings)
    assert evaluated.returncode == 1 and "QS930" in evaluated.stderr


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("data.val.batch_size=auto", "`batch_size: auto` of `val`"),
        ("stages.calibration.batch_size_per_gpu=auto", "`batch_size_per_gpu: auto` of `calib"),
        ("stages.qat.candidates={a: {batch_size_per_gpu: auto}, b: {}}", "of a candidate"),
    ],
)
def test_sizes_that_no_training_needs_are_refused(project, override, key):
    with pytest.raises(DiagnosticError) as caught:
        project.load(override)
    assert caught.value.diagnostics[0].code == "QS964"
    assert key in caught.value.diagnostics[0].message


def test_a_number_in_quotes_is_told_so(project):
    with pytest.raises(DiagnosticError) as caught:
        project.load("data.train.batch_size='8'")
    assert "without quotes: `8`" in caught.value.diagnostics[0].help


def test_live_tensors_are_counted_once_and_given_back():
    model = nn.Linear(4, 4, bias=False)
    with LiveTensors() as live:
        values = torch.zeros(2, 4)  # 32 bytes
        view = values.view(8)
        assert live.bytes == live.most == 32
        loss = model(values).sum()
        loss.backward()
        del loss, values
        assert live.bytes == 32 + 64  # the gradient of the weights, and what the view holds
    del view
    assert live.bytes == 64
    assert live.most == 32 + 64 + 4 + 4  # the input, the gradient, the loss and its gradient
