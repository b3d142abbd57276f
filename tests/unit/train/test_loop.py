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


def test_a_gradient_that_is_not_finite_stops_before_it_reaches_the_weights(make_training, last):
    training = make_training()
    training.model.fc.weight.register_hook(lambda grad: grad * float("inf"))
    with pytest.raises(DiagnosticError, match="gradient norm"):
        fit(training)
    assert all(torch.isfinite(p).all() for p in training.model.parameters())


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
