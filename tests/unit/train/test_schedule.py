"""Learning-rate schedules: torch's own classes, against them and against plain formulas."""

from __future__ import annotations

import math
import random
from io import BytesIO

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn
from torch.optim import lr_scheduler as of_torch

from qatspec.diag import DiagnosticError
from qatspec.schema import spec_schema
from qatspec.spec import Component
from qatspec.train.checkpoint import Checkpoint
from qatspec.train.optim import build_optimizer
from qatspec.train.schedule import Schedule
from tests.trainers import part

pytestmark = pytest.mark.filterwarnings("error")  # torch warns of a wrong order of steps

BRANCHES = {
    branch["if"]["properties"]["type"]["const"]: branch["then"]["properties"]
    for branch in spec_schema()["$defs"]["scheduler"]["allOf"]
}


def build(component: Component, steps: int, epoch_steps: int, lr: float = 0.5, **more) -> Schedule:
    optimizer = build_optimizer(nn.Linear(2, 2), part("optimizer", "sgd", lr=lr, **more))
    return Schedule(optimizer, component, steps=steps, epoch_steps=epoch_steps)


def rates(component: Component, steps: int = 20, epoch_steps: int = 5, lr: float = 0.5):
    return rest_of(build(component, steps, epoch_steps, lr), steps)


def rest_of(schedule: Schedule, steps: int) -> list[float]:
    result = []
    for _ in range(steps):
        result.append(schedule.apply())
        schedule.step()
    return result


def torchs(make, steps: int = 20, each: int = 1, lr: float = 0.5) -> list[float]:
    """Learning rates of torch's class, stepped every `each` steps."""
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=lr, momentum=0.9)
    scheduler = make(optimizer)
    result = []
    for step in range(steps):
        result.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if (step + 1) % each == 0:
            scheduler.step()
    return result


CASES = [
    ("exponential", {"factor": 0.8}, lambda o: of_torch.ExponentialLR(o, 0.8), 5),
    ("poly", {"power": 0.9}, lambda o: of_torch.PolynomialLR(o, 20, power=0.9), 1),
    ("cosine", {"min_lr": 0.05}, lambda o: of_torch.CosineAnnealingLR(o, 20, 0.05), 1),
    ("step", {"epochs": [1, 3]}, lambda o: of_torch.MultiStepLR(o, [1, 3]), 5),
    ("linear", {"epochs": 3}, lambda o: of_torch.LinearLR(o, total_iters=15), 1),
    ("linear", {"epochs": 2, "start_factor": 0.9, "end_factor": 0.1},
     lambda o: of_torch.LinearLR(o, 0.9, 0.1, 10), 1),
    ("low_start", {"epochs": 2}, lambda o: of_torch.ConstantLR(o, total_iters=10), 1),
    ("low_start", {"epochs": 1, "factor": 0.25}, lambda o: of_torch.ConstantLR(o, 0.25, 1), 5),
    ("cosine_restarts", {"epochs": 1}, lambda o: of_torch.CosineAnnealingWarmRestarts(o, 5), 1),
    ("cosine_restarts", {"epochs": 1, "growth": 2, "min_lr": 0.05},
     lambda o: of_torch.CosineAnnealingWarmRestarts(o, 5, 2, 0.05), 1),
    *(("cyclic", {"epochs": 2, "low_factor": 0.2, "mode": mode, "gamma": 0.9},
       lambda o, mode=mode: of_torch.CyclicLR(
           o, 0.1, 0.5, 5, mode=mode, gamma=0.9, cycle_momentum=False), 1)
      for mode in ("triangular", "triangular2", "exp_range")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "params", "make", "each"), CASES)
def test_schedules_are_those_of_torch(name, params, make, each):
    assert rates(part("scheduler", name, **params)) == torchs(make, each=each)


@pytest.mark.parametrize("start", [1.0, 1 / 3, 0.04, 1e-9])
def test_a_rate_that_falls_to_zero_is_never_below(start):
    """torch's recursion ends in the last bits of 0, on either side."""
    for epochs in (1, 2, 5):
        falling = part("scheduler", "linear", epochs=epochs, start_factor=start, end_factor=0)
        assert min(rates(falling, steps=40, epoch_steps=5)) >= 0


def test_one_cycle_is_that_of_torch():
    ours = rates(part("scheduler", "one_cycle"))
    theirs = torchs(lambda o: of_torch.OneCycleLR(o, 0.5, total_steps=20, cycle_momentum=False))
    assert ours == pytest.approx(theirs, rel=1e-12)
    assert max(ours) == 0.5


#: What a schedule of the spec is in torch; `step` has both of torch's.
OF_TORCH = {
    "cosine": "CosineAnnealingLR", "step": "MultiStepLR", "exponential": "ExponentialLR",
    "poly": "PolynomialLR", "one_cycle": "OneCycleLR", "plateau": "ReduceLROnPlateau",
    "linear": "LinearLR", "low_start": "ConstantLR",
    "cosine_restarts": "CosineAnnealingWarmRestarts", "cyclic": "CyclicLR",
}  # fmt: skip
#: A function of the user's, compositions, a list of epochs in short, and names of before.
NO_SCHEDULE = {
    "LambdaLR", "MultiplicativeLR", "ChainedScheduler", "SequentialLR", "StepLR", "LRScheduler",
}  # fmt: skip


def test_every_schedule_of_torch_is_offered():
    assert BRANCHES.keys() - {"constant"} == set(OF_TORCH)
    assert set(of_torch.__all__) - NO_SCHEDULE == set(OF_TORCH.values())


def _half_cosine(first: float, last: float, done: float) -> float:
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * done))


def _restarted(step: int, length: int, growth: int) -> float:
    while step >= length:
        step, length = step - length, length * growth
    return step / length


def _one_cycle(p, step: int, steps: int) -> float:
    top = p["rise"] * steps - 1
    if step < top:
        return _half_cosine(p["start_factor"], 1.0, step / top)
    return _half_cosine(1.0, p["end_factor"], (step - top) / max(1e-9, steps - 1 - top))


def _cyclic(p, step: int, epoch: int) -> float:
    length = p["epochs"] * epoch
    heights = {"triangular": 1.0, "triangular2": 0.5 ** (step // length),
               "exp_range": p["gamma"] ** step}  # fmt: skip
    rise = 1 - abs(2 * (step % length) / length - 1)
    return p["low_factor"] + (1 - p["low_factor"]) * rise * heights[p["mode"]]


#: Factor of the trainer's `lr` at a step, as a formula: (params, step, steps, epoch_steps), with
#: steps counted behind the warm-up for cosine and poly.
PLAIN = {
    "constant": lambda p, step, steps, epoch: 1.0,
    "plateau": lambda p, step, steps, epoch: 1.0,
    "cosine": lambda p, step, steps, epoch: _half_cosine(1.0, p["min_lr"] / 0.5, step / steps),
    "step": lambda p, step, _, epoch: p["factor"] ** sum(step >= e * epoch for e in p["epochs"]),
    "exponential": lambda p, step, steps, epoch: p["factor"] ** (step // epoch),
    "poly": lambda p, step, steps, epoch: (1 - step / steps) ** p["power"],
    "one_cycle": lambda p, step, steps, epoch: _one_cycle(p, step, steps),
    "linear": lambda p, step, _, epoch: p["start_factor"] + (p["end_factor"] - p["start_factor"])
    * min(1, step / (p["epochs"] * epoch)),
    "low_start": lambda p, step, _, epoch: p["factor"] if step < p["epochs"] * epoch else 1.0,
    "cosine_restarts": lambda p, step, _, epoch: _half_cosine(
        1.0, p["min_lr"] / 0.5, _restarted(step, p["epochs"] * epoch, p["growth"])),
    "cyclic": lambda p, step, steps, epoch: _cyclic(p, step, epoch),
}  # fmt: skip


def _values(name: str) -> st.SearchStrategy[Component]:
    """Components of a type with every key drawn from what the schema allows, the ends included."""
    drawn = {}
    for key, schema in BRANCHES[name].items():
        kind = schema.get("type") if isinstance(schema, dict) else None
        if "enum" in (schema if isinstance(schema, dict) else {}):
            drawn[key] = st.sampled_from(schema["enum"])
        elif kind == "array":
            drawn[key] = st.lists(st.integers(0, 6), min_size=1, max_size=4)
        elif kind == "integer":
            drawn[key] = st.integers(schema["minimum"], schema["minimum"] + 4)
        elif kind == "number":
            high = schema.get("maximum", schema.get("exclusiveMaximum", 0.5))
            low = schema.get("minimum", schema.get("exclusiveMinimum", 0.0))
            inner = st.sampled_from([0.1, 0.25, 1 / 3, 0.5]).filter(lambda v, h=high: v < h)
            ends = [low] * ("minimum" in schema) + [high] * ("maximum" in schema)
            drawn[key] = st.one_of(inner, *map(st.just, ends))
    return st.fixed_dictionaries(drawn).map(lambda params: part("scheduler", name, **params))


@given(
    component=st.sampled_from(sorted(BRANCHES)).flatmap(_values),
    steps=st.integers(0, 25), epoch_steps=st.integers(1, 7), stop=st.integers(0, 25),
)  # fmt: skip
@settings(max_examples=400, deadline=None)
def test_any_schedule_is_its_formula_and_resumes_to_the_bit(component, steps, epoch_steps, stop):
    params = component.params
    warmup = params.get("warmup_steps", 0)
    waits = component.type in ("cosine", "poly")
    spanned = max(1, steps - warmup) if waits else steps
    expected = []
    for step in range(steps):
        counted = max(0, step - warmup) if waits else step
        factor = PLAIN[component.type](params, counted, spanned, epoch_steps)
        expected.append(0.5 * factor * min(1.0, (step + 1) / (warmup + 1)))
    found = rates(component, steps, epoch_steps)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    stop = min(stop, steps)
    first = build(component, steps, epoch_steps)
    assert rest_of(first, stop) == found[:stop]
    second = build(component, steps, epoch_steps)
    second.load_state_dict(_stored(first))
    assert rest_of(second, steps - stop) == found[stop:]
    rest_of(first, steps - stop)
    assert _bytes(first) == _bytes(second)


def _bytes(schedule: Schedule) -> bytes:
    return Checkpoint(
        stage="qat", epoch=0, step=0, state_dict={}, scheduler=schedule.state_dict()
    ).to_bytes()


def _stored(schedule: Schedule):
    """Its state after a way through a checkpoint."""
    content = torch.load(BytesIO(_bytes(schedule)), weights_only=True)
    return content["scheduler"]


def test_the_state_of_an_earlier_version_is_an_error():
    schedule = build(part("scheduler", "cosine"), 4, 2)
    with pytest.raises(DiagnosticError, match="an earlier version of qatspec") as caught:
        schedule.load_state_dict({"step": 3})
    assert caught.value.diagnostics[0].code == "QS901"


def test_groups_of_parameters_keep_their_proportion():
    groups = [{"pattern": "bias$", "lr_factor": 0.1, "weight_decay": None}]
    schedule = build(part("scheduler", "cosine", min_lr=0.25), 4, 1, groups=groups)
    optimizer = schedule._optimizer
    pairs = []
    for _ in range(4):
        schedule.apply()
        pairs.append([group["lr"] for group in optimizer.param_groups])
        schedule.step()
    assert all(bias == pytest.approx(0.1 * weight) for weight, bias in pairs)
    assert pairs[0][0] == 0.5 and pairs[3][0] > 0.25


@pytest.mark.parametrize("seed", range(5))
def test_a_plateau_is_torchs(seed):
    rng = random.Random(seed)
    patience, least = rng.randint(0, 3), rng.choice([0.0, 2.0])
    component = part(
        "scheduler", "plateau", factor=0.5, patience=patience, min_delta=least, min_factor=0.1,
        warmup_steps=3,
    )  # fmt: skip
    mine = build(component, 40, 1, lr=0.01)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.01)
    theirs = of_torch.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.5, patience=patience, min_lr=0.001,
        threshold=least, threshold_mode="abs", eps=0.0,
    )  # fmt: skip
    for number in range(40):
        ramp = min(1.0, (number + 1) / 4)
        assert mine.apply() == pytest.approx(ramp * optimizer.param_groups[0]["lr"], rel=1e-12)
        mine.step()
        metric = min(number, 20) + rng.uniform(0, 10)
        mine.see(metric), theirs.step(metric)
        mine.load_state_dict(_stored(mine))
    assert mine.rate < 0.01
