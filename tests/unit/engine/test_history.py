"""The history of a stage, its times, and the log of a run."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from qatspec.engine.history import History
from qatspec.engine.logs import INTERVAL, Meter
from qatspec.plan.history import history_path, read_history

STEP = {"done": 1, "epoch": 1, "images": 8, "loss": 0.5, "losses": {}, "lr": 0.1, "grad_norm": 1.0}


def test_a_finished_training_has_each_step_and_epoch(finished):
    entries = read_history(history_path(finished.workdir / "qat", "qat"))
    steps = [entry for entry in entries if entry["kind"] == "step"]
    assert [entry["step"] for entry in steps] == list(range(1, len(steps) + 1))
    for entry in steps:
        assert entry["loss"] == pytest.approx(sum(entry["losses"].values()) - entry["loss"])
        assert entry["lr"] > 0 and entry["grad_norm"] > 0 and entry["images"] > 0
    judged = [entry for entry in entries if entry["kind"] == "metrics"]
    events = [e.data for e in finished.events if (e.kind, e.step) == ("metrics", "qat")]
    assert [(e["step"], e["metrics"]["accuracy"]) for e in judged] == [
        (data["step"], data["accuracy"]) for data in events
    ]
    scales = [entry["scales"] for entry in entries if entry["kind"] == "scales"]
    assert len(scales) == len(judged) and scales[0].keys() == scales[-1].keys()
    weight = next(value for path, value in scales[-1].items() if "weight_fake_quant" in path)
    assert weight == sorted(weight)


def test_it_is_a_file_of_the_stage_that_nothing_needs(copy):
    history = history_path(copy.workdir / "qat", "qat")
    listed = {a["path"]: a for a in copy.run()["artifacts"]}
    assert listed["qat/qat-history.jsonl"]["kind"] == "history"
    history.unlink()
    summary = copy.run()
    assert {step["status"] for step in summary["steps"]} == {"cached"}


def test_a_line_that_was_cut_short_ends_a_history(tmp_path):
    path = tmp_path / "history"
    path.write_bytes(b'{"kind": "step", "step": 1}\n{"kind": "st')
    assert read_history(path) == [{"kind": "step", "step": 1}]
    path.write_bytes(b'{"kind": "step", "step": 1}\nnothing\n{"kind": "step", "step": 2}\n')
    assert len(read_history(path)) == 1


@pytest.mark.parametrize(("unfinished", "kept"), [(False, ["step", "metrics"]), (True, ["step"])])
def test_a_resumed_training_goes_on_behind_its_checkpoint(tmp_path, unfinished, kept):
    with History(tmp_path, "qat") as history:
        for step in (1, 2):
            history.record("progress", {**STEP, "done": step})
            history.record("metrics", {"step": step, "epoch": 1, "AP": 1.0 * step})
    sampler = {"unfinished": 1} if unfinished else {}
    resumed = SimpleNamespace(step=1, stage="qat", sampler=sampler)
    with History(tmp_path, "qat", resumed=resumed) as history:
        history.record("progress", {"done": 1, "total": 9, "unit": "image", "phase": "evaluate"})
    assert [entry["kind"] for entry in read_history(history.path)] == kept


def test_checkpoints_that_are_judged_again_replace_all_metrics(tmp_path):
    with History(tmp_path, "qat") as history:
        for step in (1, 2, 3):
            history.record("progress", {**STEP, "done": step})
            history.record("metrics", {"step": step, "AP": 1.0})
        for step in (1, 3):
            history.record("metrics", {"step": step, "AP": float("nan")})
    metrics = [e for e in read_history(history.path) if e["kind"] == "metrics"]
    assert metrics == [
        {"kind": "metrics", "step": step, "metrics": {"AP": None}} for step in (1, 3)
    ]
    assert [e["step"] for e in read_history(history.path)] == [1, 1, 2, 3, 3]


def test_throughput_leaves_out_validations():
    now = [0.0]
    meter = Meter(torch.device("cpu"), clock=lambda: now[0])

    def after(seconds, **data):
        now[0] += seconds
        return meter.read("progress", {"unit": "step", "images": 8, "done": 0, **data})

    assert after(0) is None and after(1, done=1) is None
    assert after(INTERVAL - 1, done=2)["images_per_second"] == 16 / INTERVAL
    assert after(4, done=3) is None
    before = after(0, unit="image")
    assert (before["step"], before["images_per_second"]) == (3, 2.0)
    assert before["memory_bytes"] > 1 << 20 and before["device_memory_bytes"] is None
    assert after(100, unit="image") is None and after(1) is None
    assert after(INTERVAL, done=5)["images_per_second"] == 8 / INTERVAL


def test_the_log_has_what_happened_and_quiet_prints_nothing(copy):
    call = copy.call("run", "toy.yaml", "--allow-code", "--workdir", "work", "--quiet",
                     "--set", "stages.qat.trainer.epochs=3")  # fmt: skip
    assert (call.returncode, call.stdout) == (0, "")
    lines = (copy.workdir / "logs/run.log").read_text().splitlines()
    begin = max(i for i, line in enumerate(lines) if "run of toy" in line)
    text = "\n".join(lines[begin:])
    assert "INFO float: is cached  accuracy" in text
    assert "qat: validated  epoch" in text
    assert "INFO finished: work/summary.json" in lines[-1]
    times = (copy.workdir / "logs/qat-times.jsonl").read_text().splitlines()
    assert {"time", "digest", "step", "images_per_second"} < json.loads(times[-1]).keys()
