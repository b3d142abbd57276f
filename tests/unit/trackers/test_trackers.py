"""Trackers show what the events of a run hold."""

from __future__ import annotations

import re

import pytest
from qatspec_trackers import plugin
from qatspec_trackers.tracker import allowed, numbers, settings_of, step_of

from qatspec.types import StageEvent

LOSSES = {"loss": 3.0, "cls": 1.0, "reg": 2.0}


def events(workdir, *, resumed=None):
    """A run with two steps of float."""
    run = {"spec": "toy", "steps": ["float"], "workdir": str(workdir), "digest": "ab" * 32,
           "settings": {"/seed": 3, "/stages/float/trainer/epochs": 1,
                        "/march#fused_add": True}}  # fmt: skip
    yield "run_started", "", run
    yield "step_started", "float", {"number": 1, "total": 1, "resumed_from": resumed}
    for step in (1, 2):
        yield "progress", "float", {
            "done": step, "total": 2, "unit": "step", "epoch": 1, "epochs": 1, "images": 8,
            "loss": 3.0, "losses": LOSSES, "lr": 0.1 * step, "grad_norm": 4.0,
        }  # fmt: skip
    yield "progress", "float", {"done": 8, "total": 8, "unit": "image", "phase": "evaluate"}
    yield "metrics", "float", {"step": 2, "epoch": 1, "AP": 12.5}
    yield "scales", "float", {"step": 2, "scales": {"a": 0.5, "b.weight": [0.1, 0.2, 0.9]}}
    yield "resources", "float", {"step": 2, "images_per_second": 7.0, "memory_bytes": 9,
                                 "device_memory_bytes": None}  # fmt: skip
    yield "step_finished", "float", {"metrics": {"AP": 12.5}, "seconds": 1.0}
    yield "run_finished", "", {"summary": "summary.json"}


EXPECTED = {
    "float/loss": [(1, 3.0), (2, 3.0)],
    "float/losses/cls": [(1, 1.0), (2, 1.0)],
    "float/losses/reg": [(1, 2.0), (2, 2.0)],
    "float/lr": [(1, 0.1), (2, 0.2)],
    "float/grad_norm": [(1, 4.0), (2, 4.0)],
    "float/metrics/AP": [(2, 12.5)],
    "float/scales/a": [(2, 0.5)],
    "float/scales/b.weight": [(2, 0.2)],
    "float/images_per_second": [(2, 7.0)],
    "float/memory_bytes": [(2, 9.0)],
}


def play(name, workdir):
    for kind, step, data in events(workdir):
        data = {**data, "track": [name]} if kind == "run_started" else data
        plugin.qatspec_stage_event(StageEvent(kind=kind, step=step, data=data))
    assert plugin._active == []


def test_numbers_of_events(tmp_path):
    shown: dict[str, list[tuple[int, float]]] = {}
    for kind, step, data in events(tmp_path):
        event = StageEvent(kind=kind, step=step, data=data)
        for name, value in numbers(event).items():
            shown.setdefault(name, []).append((step_of(event), pytest.approx(value)))
    assert shown == EXPECTED


def test_settings_have_names_that_mlflow_allows(copy):
    copy.run()
    settings = copy.events[0].data["settings"]
    named = settings_of({"settings": settings})
    assert [str(value) for value in settings.values()] == [*named.values()]
    assert all(re.fullmatch(r"[/\w.\- ]+", name) for name in named), named
    assert named["seed"] == "3" and any("#" in name for name in settings)


def test_names_that_become_one_stay_apart():
    assert settings_of({"settings": {"/a#b": 1, "/a_b": 2}}) == {"a_b": "1", "a_b.2": "2"}
    assert allowed("qat/scales/a:b[0]") == "qat/scales/a_b_0_"


@pytest.mark.parametrize("failing", ["starts", "shows"])
def test_the_others_get_every_event_where_one_raises(tmp_path, monkeypatch, failing):
    shown = []

    class Calm:
        def __init__(self, run) -> None:
            pass

        def show(self, event) -> None:
            shown.append(event.kind)

    class Angry(Calm):
        def __init__(self, run) -> None:
            if failing == "starts":
                raise OSError("no connection")

        def show(self, event) -> None:
            raise OSError("no connection")

    classes = {"angry": Angry, "calm": Calm}
    monkeypatch.setattr(plugin, "TRACKERS", {"mlflow": "angry", "wandb": "calm"})
    monkeypatch.setattr(
        plugin, "import_module", lambda name: type("Module", (), {"Tracking": classes[name]})
    )
    raised = []
    for kind, step, data in events(tmp_path):
        data = {**data, "track": ["mlflow", "wandb"]} if kind == "run_started" else data
        try:
            plugin.qatspec_stage_event(StageEvent(kind=kind, step=step, data=data))
        except OSError as error:
            raised.append((kind, str(error)))
    assert raised == [("run_started", "no connection")]
    assert shown == [kind for kind, _, _ in events(tmp_path)]


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    play("tensorboard", tmp_path)
    read = EventAccumulator(str(tmp_path / "logs/tensorboard/float"))
    read.Reload()
    scalars = {name: read.Scalars(name) for name in read.Tags()["scalars"]}
    assert {
        k: [(s.step, pytest.approx(s.value)) for s in v] for k, v in scalars.items()
    } == EXPECTED


def test_candidates_at_the_same_time_have_a_folder_each(tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first, *others = events(tmp_path)
    play_one = plugin.qatspec_stage_event
    play_one(StageEvent(kind=first[0], step="", data={**first[2], "track": ["tensorboard"]}))
    for kind, _, data in others[:-1]:
        for name in ("qat/base", "qat/slow"):
            play_one(StageEvent(kind=kind, step=name, data=data))
    play_one(StageEvent(kind="run_finished", step="", data=others[-1][2]))
    for name in ("base", "slow"):
        read = EventAccumulator(str(tmp_path / "logs/tensorboard/qat" / name))
        read.Reload()
        assert [s.step for s in read.Scalars(f"qat/{name}/loss")] == [1, 2]


def test_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    mlflow.set_tracking_uri((tmp_path / "store").as_uri())
    play("mlflow", tmp_path)
    play("mlflow", tmp_path)  # the same settings: the same run
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("toy").experiment_id])
    assert run.info.status == "FINISHED" and run.data.params["seed"] == "3"
    history = client.get_metric_history(run.info.run_id, "float/lr")
    assert [(m.step, m.value) for m in history][:2] == [(1, 0.1), (2, 0.2)]
    assert run.data.metrics["float/metrics/AP"] == 12.5


def test_weights_and_biases_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="Weights & Biases is not installed")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    play("wandb", tmp_path)
    wandb.teardown()  # waits until the files are written
    (file,) = (tmp_path / "logs/wandb").glob("offline-run-*/run-*.wandb")
    assert b"float/metrics/AP" in file.read_bytes()


def test_a_tracker_that_raises_is_told_once_and_ends_no_run(copy, monkeypatch):
    class Angry:
        def __init__(self, run) -> None:
            pass

        def show(self, event) -> None:
            raise OSError("no connection")

    monkeypatch.setitem(plugin.TRACKERS, "tensorboard", "angry")
    monkeypatch.setattr(
        plugin, "import_module", lambda name: type("Module", (), {"Tracking": Angry})
    )
    copy.run(track=["tensorboard"])
    said = [e.data["message"] for e in copy.events if e.kind == "log"]
    assert len([message for message in said if "no connection" in message]) == 1
    assert copy.events[-1].kind == "run_finished"


def test_a_tracker_that_is_not_installed_is_told_before_the_run(copy, monkeypatch):
    monkeypatch.setattr("qatspec.cli.run.TRACKERS", {"wandb": "no_such_package"})
    call = copy.call("run", "toy.yaml", "--allow-code", "--workdir", "work", "--track", "wandb")
    assert call.returncode == 1 and "QS921" in call.stderr and "qatspec[wandb]" in call.stderr
