from __future__ import annotations

import hashlib

import pytest
import torch
from torch import nn

from qatspec.diag import DiagnosticError
from qatspec.plan.checkpoints import checkpoint_path
from qatspec.train.loop import fit
from tests.trainers import part


def digests(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.pth.tar")}


def test_trains_and_writes_every_checkpoint(make_training):
    training = make_training(epochs=6)
    metrics, paths = fit(training)
    assert metrics["accuracy"] >= 90
    names = {p.name for p in paths}
    assert {f"float-checkpoint-epoch-000{n}.pth.tar" for n in range(1, 7)} < names
    assert {"float-checkpoint-last.pth.tar", "float-checkpoint-best.pth.tar"} < names


def test_two_runs_give_the_same_bytes(make_training):
    first, second = make_training("a"), make_training("b")
    fit(first), fit(second)
    assert digests(first.folder) == digests(second.folder)
    other = make_training("c", optimizer=part("optimizer", "sgd", lr=0.05))
    fit(other)
    assert digests(other.folder) != digests(first.folder)


class Stop(Exception):
    pass


@pytest.mark.parametrize("stop_at", [1, 4, 5, 7, 9])
def test_resuming_gives_the_bytes_of_an_unbroken_run(make_training, last, stop_at):
    unbroken = make_training("unbroken")
    fit(unbroken)

    def report(kind, data):
        if kind == "progress" and data["done"] == stop_at:
            raise Stop

    broken = make_training("broken", report=report)
    with pytest.raises(Stop):
        fit(broken)
    path = checkpoint_path(broken.folder, "float", "last")
    resume = last(broken) if path.exists() else None
    assert (resume.step if resume else 0) == {1: 0, 4: 3, 5: 3, 7: 6, 9: 6}[stop_at]
    torch.manual_seed(99)  # what the process drew meanwhile must not matter
    again = make_training("broken")
    if resume is not None:
        torch.manual_seed(99)
    fit(again, resume)
    assert digests(broken.folder) == digests(unbroken.folder)


def test_steps_end_the_training_in_mid_epoch(make_training, last):
    training = make_training(epochs=None, steps=7)
    fit(training)
    assert last(training).step == 7
    assert checkpoint_path(training.folder, "float", "step-7").exists()


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(
    make_training, toy_net, last
):
    class Bad(toy_net):
        calls = 0

        def loss(self, outputs, targets):
            self.calls += 1
            losses = super().loss(outputs, targets)
            return {
                **losses,
                "box": losses["cross_entropy"] * (float("nan") if self.calls == 5 else 1),
            }

    torch.manual_seed(0)
    training = make_training(model=Bad())
    with pytest.raises(DiagnosticError) as caught:
        fit(training)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "QS904"
    assert "epoch 1, step 5" in diagnostic.message
    assert "`box` = nan" in diagnostic.message
    assert "cross_entropy" not in diagnostic.message
    assert last(training).step == 3


def test_memory_that_was_not_written_is_not_finite_in_the_first_step(make_training, toy_net):
    """Later steps do not pay for it."""
    filled = []

    class Reading(toy_net):
        def forward(self, images):
            filled.append(torch.utils.deterministic.fill_uninitialized_memory)
            return super().forward(images) + (torch.empty(1) if reads else 0)

    try:
        torch.set_deterministic_debug_mode("warn")
        reads = True
        with pytest.raises(DiagnosticError, match="epoch 1, step 1"):
            fit(make_training("reads", model=Reading()))
        reads, filled = False, []
        fit(make_training("writes", model=Reading()))
        assert filled[0]
        assert not any(filled[1:])
    finally:
        torch.set_deterministic_debug_mode("default")


@pytest.mark.parametrize("check_steps", [1, 3, 100])
def test_a_gradient_that_is_not_finite_stops_before_it_reaches_a_checkpoint(
    make_training, last, check_steps
):
    """The step is named, however many are done before their values are read."""
    training = make_training(check_steps=check_steps)
    calls = []

    def spoil(gradient):
        calls.append(gradient)
        return gradient * float("inf") if len(calls) == 8 else gradient

    training.model.fc.weight.register_hook(spoil)
    with pytest.raises(DiagnosticError, match="epoch 2, step 8: `gradient norm`"):
        fit(training)
    saved = last(training)
    assert saved.step == 6
    assert all(torch.isfinite(value).all() for value in saved.state_dict.values())


def test_an_error_that_follows_from_a_loss_that_is_not_finite(make_training, toy_net):
    """A model may refuse what it computes from spoilt weights."""

    class Refusing(toy_net):
        def forward(self, images):
            if not torch.isfinite(self.fc.weight).all():
                raise RuntimeError("boxes are not finite")
            return super().forward(images)

        def loss(self, outputs, targets):
            return {"cross_entropy": super().loss(outputs, targets)["cross_entropy"] / 0.0}

    torch.manual_seed(0)
    training = make_training(model=Refusing(), check_steps=100)
    with pytest.raises(DiagnosticError, match="epoch 1, step 1: `cross_entropy`"):
        fit(training)


def test_bytes_do_not_depend_on_when_values_are_read(make_training):
    seen = {}
    for steps in (1, 4, 100):
        told = seen.setdefault(steps, [])
        training = make_training(
            f"every {steps}", check_steps=steps,
            report=lambda kind, data, told=told: told.append(data) if "loss" in data else None,
        )  # fmt: skip
        fit(training)
    first, *others = (digests(training.folder.with_name(f"every {steps}")) for steps in seen)
    assert others == [first, first]
    assert seen[4] == seen[1] == seen[100]
    assert [data["done"] for data in seen[1]] == [*range(1, 11)]


class Plain(nn.Module):
    """Without batch norms and dropout, a batch is the sum of its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 2)

    def forward(self, images):
        return self.fc(images.flatten(1))

    def loss(self, outputs, targets):
        labels = torch.stack([t["label"] for t in targets])
        return {"cross_entropy": nn.functional.cross_entropy(outputs, labels)}

    def predict(self, outputs):
        return [{"label": row.argmax()} for row in outputs]


def test_accumulated_batches_are_one_larger_batch(make_training, last, toy_set):
    found = {}
    for parts, size in ((1, 8), (2, 4), (4, 2)):
        torch.manual_seed(0)
        losses = []
        training = make_training(
            f"parts {parts}", model=Plain(), accumulate=parts, dataset=toy_set(26), batch_size=size,
            report=lambda kind, data, losses=losses: losses.append(data.get("loss")),
        )  # fmt: skip
        fit(training)
        found[parts] = last(training), [loss for loss in losses if loss is not None]
    (one, losses), *others = found.values()
    assert one.step == 6
    for other, same in others:
        assert (other.step, other.epoch) == (6, 2)
        torch.testing.assert_close(same, losses)
        torch.testing.assert_close(dict(other.state_dict), dict(one.state_dict))


def test_an_interrupted_accumulation_resumes_at_its_step(make_training, last):
    settings = {"accumulate": 2, "checkpoint_steps": 1, "epochs": 3}
    unbroken = make_training("unbroken", **settings)
    fit(unbroken)

    def report(kind, data):
        if kind == "progress" and data["done"] == 4:
            raise Stop

    broken = make_training("broken", report=report, **settings)
    with pytest.raises(Stop):
        fit(broken)
    assert last(broken).step == 3
    fit(make_training("broken", **settings), last(broken))
    assert digests(broken.folder) == digests(unbroken.folder)


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_resumes_with_the_same_bytes(make_training, last, amp):
    settings = {"amp": amp, "autocast": amp, "checkpoint_steps": 1}
    unbroken = make_training("unbroken", **settings)
    fit(unbroken)
    scaler = last(unbroken).scaler
    assert scaler is None if amp == "bf16" else scaler["scale"] > 0

    def report(kind, data):
        if kind == "progress" and data["done"] == 4:
            raise Stop

    broken = make_training("broken", report=report, **settings)
    with pytest.raises(Stop):
        fit(broken)
    fit(make_training("broken", **settings), last(broken))
    assert digests(broken.folder) == digests(unbroken.folder)
    plain = make_training("plain")
    fit(plain)
    assert digests(plain.folder) != digests(unbroken.folder)
    near = dict(last(plain).state_dict), dict(last(unbroken).state_dict)
    torch.testing.assert_close(*near, rtol=0.1, atol=0.05)


def test_channels_last_resumes_with_the_same_bytes(make_training, last, toy_net):
    class Net(toy_net):
        def __init__(self):
            super().__init__()
            self.conv = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Conv2d(3, 4, 3))
            self.to(memory_format=torch.channels_last)

    def make(folder, epochs):
        torch.manual_seed(0)
        return make_training(folder, model=Net(), epochs=epochs, optimizer=part(
            "optimizer", "adamw", lr=0.01), scheduler=part("scheduler", "constant"))  # fmt: skip

    unbroken = make("unbroken", 2)
    fit(unbroken)
    fit(make("broken", 1))
    again = make("broken", 2)
    fit(again, last(again))
    assert again.model.conv[1].weight.is_contiguous(memory_format=torch.channels_last)
    assert last(again).to_bytes() == last(unbroken).to_bytes()
    assert all(value.is_contiguous() for value in last(again).state_dict.values())


def test_a_step_whose_scaled_gradient_overflows_is_left_out(make_training, last):
    norms = []
    training = make_training(
        amp="fp16", autocast="fp16", epochs=None, steps=3, ema=None,
        report=lambda kind, data: norms.append(data["grad_norm"]) if kind == "progress" else None,
    )  # fmt: skip
    calls = []

    def spoil(gradient):
        calls.append(gradient)
        return gradient * float("inf") if len(calls) == 2 else gradient

    training.model.fc.weight.register_hook(spoil)
    fit(training)
    assert norms[1] == 0.0 and all(norm > 0 for norm in (norms[0], norms[2]))
    assert last(training).scaler["scale"] == 2.0**15
    assert all(torch.isfinite(value).all() for value in last(training).state_dict.values())


def watching(make_training, folder="run", metrics=(50.0, 60.0, 60.0, 55.0, 70.0), **settings):
    values = iter(metrics)
    told = []
    training = make_training(
        folder, epochs=len(metrics), report=lambda *event: told.append(event), **settings
    )
    object.__setattr__(training, "validate", lambda: {"accuracy": next(values)})
    return training, told


def test_early_stop(make_training, last):
    from qatspec.spec.model import EarlyStop

    training, told = watching(make_training, early_stop=EarlyStop(patience=2, min_delta=0.0))
    metrics, paths = fit(training)
    assert metrics == {"accuracy": 60.0}
    assert last(training).epoch == 4
    assert "ends early, after step 20" in next(d["message"] for k, d in told if k == "log")
    again, _ = watching(make_training, early_stop=EarlyStop(patience=2, min_delta=0.0))
    before = digests(training.folder)
    assert fit(again, last(training)) == (metrics, paths)  # it has ended
    assert digests(training.folder) == before


def test_a_plateau_lowers_the_learning_rate(make_training, last):
    plateau = part("scheduler", "plateau", patience=0, factor=0.5, warmup_steps=1)
    training, told = watching(make_training, scheduler=plateau)
    fit(training)
    rates = [data["lr"] for kind, data in told if kind == "progress"]
    assert rates == pytest.approx([0.05, *[0.1] * 14, *[0.05] * 5, *[0.025] * 5])
    values = (60.0, 55.0, 70.0)
    first, _ = watching(make_training, "first", (50.0, 60.0), scheduler=plateau)
    fit(first)
    rest, _ = watching(make_training, "first", values, scheduler=plateau)
    object.__setattr__(rest, "trainer", training.trainer)
    fit(rest, last(first))
    assert last(rest).to_bytes() == last(training).to_bytes()


def test_a_profile_covers_every_part(make_training):
    told = []
    fit(make_training(profile=True, report=lambda *event: told.append(event)))
    (data,) = (data for kind, data in told if kind == "profile")
    assert data["steps"] == 10
    assert set(data["seconds"]) == {"data", "forward", "backward", "optimizer", "sync", "eval"}
    assert all(seconds > 0 for seconds in data["seconds"].values())


@pytest.mark.parametrize(
    ("mode", "freeze_from_epoch", "moves"),
    [("running", None, True), ("synchronized", None, True), ("frozen", None, False),
     ("running", 1, True)],
)  # fmt: skip
def test_batch_norm_modes(make_training, mode, freeze_from_epoch, moves):
    seen = []

    def report(kind, data):
        if kind == "progress":
            seen.append(training.model.bn.running_mean.clone())

    training = make_training(batch_norm=mode, freeze_from_epoch=freeze_from_epoch, report=report)
    start = training.model.bn.running_mean.clone()
    fit(training)
    assert (not torch.equal(seen[0], start)) is moves
    if freeze_from_epoch == 1:  # frozen from the second epoch, whose steps are 5..9
        assert torch.equal(seen[4], seen[-1])
        assert not torch.equal(seen[3], seen[4])


def test_best_is_the_checkpoint_with_the_best_metric(make_training):
    from qatspec.train.checkpoint import load

    values = iter([10.0, 30.0, 20.0])
    training = make_training(epochs=3)
    object.__setattr__(training, "validate", lambda: {"accuracy": next(values)})
    metrics, _ = fit(training)
    assert metrics == {"accuracy": 30.0}
    assert load(checkpoint_path(training.folder, "float", "best")).epoch == 2


def test_grad_clip_bounds_the_step(make_training):
    training = make_training(
        epochs=None, steps=1, grad_clip=1e-3, ema=None, scheduler=part("scheduler", "constant"),
        optimizer=part("optimizer", "sgd", lr=1.0),
    )  # fmt: skip
    before = nn.utils.parameters_to_vector(training.model.parameters()).detach()
    fit(training)
    after = nn.utils.parameters_to_vector(training.model.parameters()).detach()
    assert 0 < float((after - before).norm()) <= 1.01e-3


def test_no_epochs_judge_and_keep_the_weights(make_training, last):
    training = make_training(epochs=0)
    before = {key: value.clone() for key, value in training.model.state_dict().items()}
    metrics, paths = fit(training)
    assert "accuracy" in metrics
    assert {p.name for p in paths} == {
        f"float-checkpoint-{which}.pth.tar" for which in ("best", "epoch-0000", "last")
    }
    for key, value in last(training).weights.items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)
    assert fit(make_training(epochs=0), last(training))[0] == metrics
