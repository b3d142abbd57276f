"""Optimizers, groups, frozen parts and clipping, against torch's own classes."""

from __future__ import annotations

import copy
import inspect

import pytest
import torch
from torch import nn

from qatspec.diag import DiagnosticError
from qatspec.schema import spec_schema
from qatspec.spec import Trainer
from qatspec.train.loop import fit
from qatspec.train.optim import (
    build_optimizer,
    freeze,
    freeze_statistics,
    load_optimizer,
    tensors_per_parameter,
)
from tests.trainers import part

BRANCHES = {
    branch["if"]["properties"]["type"]["const"]: branch["then"]["properties"]
    for branch in spec_schema()["$defs"]["optimizer"]["allOf"]
}
CLASSES = {name.lower(): value for name, value in vars(torch.optim).items()}
#: Of torch's classes: what chooses between implementations of the same numbers, and sgd's
#: `dampening`, which no HAT trainer has.
LEFT_OUT = {
    "self", "params", "lr", "foreach", "maximize", "capturable", "differentiable", "fused",
    "dampening",
}  # fmt: skip
#: Need a closure, sparse gradients or matrices alone.
NOT_OFFERED = {"lbfgs", "sparseadam", "muon", "optimizer"}


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def test_every_optimizer_of_torch_is_offered():
    assert set(CLASSES) & set(BRANCHES) == set(BRANCHES)
    classes = {n for n, c in CLASSES.items() if inspect.isclass(c)}
    assert classes - set(BRANCHES) == NOT_OFFERED & classes


@pytest.mark.parametrize("name", BRANCHES)
def test_an_optimizer_has_the_params_and_defaults_of_torch(name):
    parameters = inspect.signature(CLASSES[name]).parameters
    expected = {
        key: list(p.default) if isinstance(p.default, tuple) else p.default
        for key, p in parameters.items()
        if key not in LEFT_OUT
    }
    stated = {
        k: v["default"] for k, v in BRANCHES[name].items() if k not in ("type", "lr", "groups")
    }
    assert stated == expected


@pytest.mark.parametrize("name", BRANCHES)
def test_steps_are_those_of_torch(name):
    """With the weight decay of weights alone; and as many tensors as are told to be kept."""
    ours, theirs = net(), net()
    component = part("optimizer", name, lr=0.01)
    optimizer = build_optimizer(ours, component)
    decay = component.params.get("weight_decay", 0)
    groups = [{"params": [p for p in theirs.parameters() if p.dim() > 1]}]
    groups.append({"params": [p for p in theirs.parameters() if p.dim() == 1]})
    for group, value in zip(groups, (decay, 0.0), strict=True):
        group.update({"weight_decay": value} if decay else {})
    reference = CLASSES[name](groups, lr=0.01)
    assert type(optimizer) is type(reference)
    for _ in range(3):
        for model, each in ((ours, optimizer), (theirs, reference)):
            each.zero_grad()
            model(torch.ones(2, 4) * torch.tensor([[1.0], [2.0]])).square().sum().backward()
            each.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)
    weight = ours[0].weight
    kept = [v for v in optimizer.state[weight].values() if getattr(v, "shape", ()) == weight.shape]
    assert tensors_per_parameter(component) == len(kept)


def test_groups_of_parameters():
    groups = [
        {"pattern": r"^0\.", "lr_factor": 0.1, "weight_decay": None},
        {"pattern": "bias$", "lr_factor": 1, "weight_decay": 0.25},
    ]
    model = net()
    component = part("optimizer", "adamw", lr=0.5, weight_decay=0.125, groups=groups)
    optimizer = build_optimizer(model, component)
    found = {
        name: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
        for name in [n for n, p in model.named_parameters() if p is parameter]
    }
    assert found == {
        "0.weight": (0.05, 0.125), "0.bias": (0.05, 0.0), "1.weight": (0.5, 0.0),
        "1.bias": (0.5, 0.25), "2.weight": (0.5, 0.125), "2.bias": (0.5, 0.25),
    }  # fmt: skip


def test_frozen_parts_do_not_change(make_training, toy_net):
    torch.manual_seed(0)
    model = toy_net()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fit(make_training(model=model, freeze=("^conv", "^bn")))
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"fc.weight", "fc.bias"}


def test_statistics_freeze_by_name_and_by_epoch():
    model = net().train()
    freeze_statistics(model, Trainer(freeze=("^1$",)), epoch=0)
    assert not model[1].training and model[0].training
    freeze_statistics(model, Trainer(freeze_from_epoch=2), epoch=1)
    assert model[1].training
    freeze_statistics(model, Trainer(freeze_from_epoch=2), epoch=2)
    assert not model[1].training


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"freeze": ("backbone",)}, "`backbone` matches no parameter"),
        ({"freeze": (".",)}, "leaves no parameter to train"),
        (
            {"optimizer": part("optimizer", "sgd", lr=0.1, groups=[
                {"pattern": "neck", "lr_factor": 1, "weight_decay": None}])},
            "`neck` matches no parameter",
        ),
    ],
)  # fmt: skip
def test_patterns_without_effect_are_refused(settings, message):
    with pytest.raises(DiagnosticError, match=message) as caught:
        freeze(net(), Trainer(**{"optimizer": part("optimizer", "sgd", lr=0.1), **settings}))
    assert caught.value.diagnostics[0].code == "QS962"


def test_values_of_the_gradient_are_clipped(make_training):
    training = make_training(
        epochs=None, steps=1, clip_value=1e-3, ema=None, scheduler=part("scheduler", "constant"),
        optimizer=part("optimizer", "sgd", lr=1.0),
    )  # fmt: skip
    before = nn.utils.parameters_to_vector(training.model.parameters()).detach()
    fit(training)
    after = nn.utils.parameters_to_vector(training.model.parameters()).detach()
    assert 0.9e-3 < float((after - before).abs().max()) <= 1.01e-3


def convs() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, (1, 3)), nn.Flatten())
    return model.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["sgd", "adamw", "adam", "adagrad"])
def test_one_kernel_for_all_parameters_takes_the_same_steps(name):
    """Weights of convolutions lie channels last, and what is loaded into an optimizer does not."""
    models = convs(), convs()
    made = [
        build_optimizer(model, part("optimizer", name, lr=0.01), fused=fused)
        for model, fused in zip(models, (True, False), strict=True)
    ]
    assert [optimizer.param_groups[0]["fused"] for optimizer in made] == [True, None]
    for step in range(6):
        if step == 3:
            for optimizer in made:
                state = copy.deepcopy(optimizer.state_dict())
                for kept in state["state"].values():
                    kept.update({k: v.contiguous() for k, v in kept.items() if v is not None})
                load_optimizer(optimizer, state)
        x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        for model, optimizer in zip(models, made, strict=True):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
    for a, b in zip(*(model.parameters() for model in models), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


def test_sparse_gradients_are_given_to_no_single_kernel():
    model = nn.Sequential(nn.Embedding(5, 2, sparse=True))
    optimizer = build_optimizer(model, part("optimizer", "sgd", lr=0.1), fused=True)
    model(torch.tensor([1])).sum().backward()
    optimizer.step()
    assert optimizer.param_groups[0]["fused"] is None
