"""Checkpoints as other projects write them: containers, wrappers, dtypes, what is said of them,
and the settings that a message proposes."""

from __future__ import annotations

import argparse
import collections
import pathlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from qatspec.api import DiagnosticError, load_state
from tests.unit.train.foreign import (
    AVERAGE,
    RAW,
    Config,
    Holder,
    Net,
    State,
    demand_loaded,
    refused,
    save,
    trained,
    under,
)

CONTAINERS: dict[str, Any] = {
    "bare": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3, "optimizer": {"state": {}}},
    "model": lambda s: {"model": s, "optimizer": {"state": {0: {"exp_avg": torch.ones(9)}}}},
    "model_state_dict": lambda s: {"model_state_dict": s, "loss": torch.tensor(0.3)},
    "net": lambda s: {"net": s, "acc": 93.1, "epoch": 5},
    "params": lambda s: {"params": s},
    "weights": lambda s: {"weights": s},
    "module": lambda s: {"module": s, "global_steps": 4},  # DeepSpeed
    "another name": lambda s: {"generator": s, "step": torch.tensor(4)},
    "two levels": lambda s: {"model": {"state_dict": s, "name": "n"}},
    "options": lambda s: {"state_dict": s, "args": argparse.Namespace(lr=0.1)},
    "numpy": lambda s: {"state_dict": s, "best": np.float64(7), "classes": np.arange(3)},
    "a configuration": lambda s: {"model": s, "cfg": Config(a=1), "at": pathlib.Path("/x")},
    "defaultdict": lambda s: {"model": s, "log": collections.defaultdict(list, a=[1])},
    "lightning": lambda s: {
        "state_dict": under("model.", s), "hyper_parameters": Config(lr=0.1),
        "callbacks": {"ModelCheckpoint": {"best": torch.tensor(0.5)}}, "loops": {},
    },
}  # fmt: skip
WRAPPERS: dict[str, Any] = {
    "none": lambda s: s,
    "ddp": lambda s: under("module.", s),
    "compiled": lambda s: under("_orig_mod.", s),
    "compiled ddp": lambda s: under("module._orig_mod.", s),
    "ddp twice": lambda s: under("module.module.", s),
    "lightning": lambda s: under("model.", s),
    "net": lambda s: under("net.", s),
    "deep": lambda s: under("trainer.system.model.", s),
    "part of it ddp": lambda s: {k.replace("stem.", "stem.module."): v for k, v in s.items()},
    "part compiled": lambda s: {k.replace("body.", "body._orig_mod."): v for k, v in s.items()},
    "averaged": lambda s: {"n_averaged": torch.tensor(4), **under("module.", s)},
}  # fmt: skip


@pytest.mark.parametrize("model", [Net, Holder])
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_layouts(container: str, wrapper: str, model: type[nn.Module], tmp_path: Path) -> None:
    state = trained()
    target = model()
    given = load_state(target, save(tmp_path, CONTAINERS[container](WRAPPERS[wrapper](state))))
    demand_loaded(target, state)
    assert not given.warnings
    changed = (wrapper, container, model) not in {
        ("none", "bare", Net), ("net", "bare", Holder), ("none", "lightning", Net),
    }  # fmt: skip
    assert bool(given.told) >= (changed and container != "bare")
    said = " ".join(given.told)
    if wrapper == "ddp":
        assert "`module.` was removed from 16 keys" in said
    if wrapper == "deep" and container == "bare":
        expected = "became `net.`" if model is Holder else "was removed"
        assert f"`trainer.system.model.` {expected} in front of 16 keys" in said


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float32])
@pytest.mark.parametrize("old", [False, True], ids=["archive", "before 1.6"])
def test_dtypes(dtype: torch.dtype, old: bool, tmp_path: Path) -> None:
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in trained().items()}
    content = {"state_dict": state, "args": argparse.Namespace(lr=1), "best": np.float32(1)}
    path = save(tmp_path, content, _use_new_zipfile_serialization=not old)
    model = Net()
    given = load_state(model, path)
    demand_loaded(model, state)
    cast = f"14 tensors cast from {str(dtype).removeprefix('torch.')} to float32"
    assert (cast in given.told) == (dtype != torch.float32)


def test_what_is_no_weight_need_not_be_there() -> None:
    state = {k: v for k, v in trained().items() if "num_batches" not in k}
    model = Net()
    load_state(model, state)
    assert torch.equal(model.head.weight, state["head.weight"])
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    model.stem[1] = nn.BatchNorm2d(4, track_running_stats=True)
    assert all(norm.num_batches_tracked == 0 for norm in norms)


@pytest.mark.parametrize(
    ("key", "shape", "fits"),
    [
        ("head.weight", (2, 4, 1, 1), True),
        ("head.bias", (1, 2, 1, 1), True),
        ("stem.1.weight", (4, 1, 1), True),
        ("head.weight", (4, 2), False),
        ("head.weight", (8,), False),
        ("head.weight", (2, 2, 2), False),
        ("stem.0.weight", (4, 3, 1, 3, 3), True),
        ("stem.0.weight", (4, 9, 3), False),
    ],
)
def test_sizes_of_one(key: str, shape: tuple[int, ...], fits: bool) -> None:
    state = trained()
    state[key] = state[key].reshape(shape)
    model = Net()
    if not fits:
        with pytest.raises(DiagnosticError, match=f"another shape of 1 key \\({key}"):
            load_state(model, state)
        return
    given = load_state(model, state)
    assert any(f"`{key}` {shape} became" in line for line in given.told)
    demand_loaded(model, {k: v.reshape(model.state_dict()[k].shape) for k, v in state.items()})


class Averager:
    """An average that is an object, as pickles of whole trainers hold it."""

    def __init__(self) -> None:
        self.state = AVERAGE


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": RAW, "state_dict_ema": AVERAGE},
        {"model": RAW, "model_ema": under("module.", AVERAGE)},
        {"model": under("module.", RAW), "ema": {"module": AVERAGE, "updates": 3}},
        {"params": RAW, "params_ema": AVERAGE},
        {"state_dict": {**under("model.", RAW), **under("ema_model.module.", AVERAGE)}},
        {"state_dict": {**under("net.", RAW), **under("net_ema.", AVERAGE)}},
        {**RAW, **under("ema.", AVERAGE)},
    ],
)
def test_an_average_is_taken_and_told_and_a_key_chooses_the_other(
    content: Any, tmp_path: Path
) -> None:
    path, model = save(tmp_path, content), Holder()
    given = load_state(model, path)
    demand_loaded(model, AVERAGE)
    assert "ema" in " ".join(given.told)
    inside = content.get("state_dict", {})
    prefixes = [name for name in ("model", "net") if f"{name}.head.bias" in inside]
    names = [name for name in ("state_dict", "model", "params") if name in content]
    for entry in prefixes or names:
        load_state(model, path, entry=entry)
        demand_loaded(model, RAW)


def test_an_average_that_is_an_object_is_not_read(tmp_path: Path) -> None:
    path, model = save(tmp_path, {"model": RAW, "ema": Averager()}), Net()
    (warning,) = load_state(model, path).warnings
    assert warning.code == "QS961" and "`ema`" in warning.message
    demand_loaded(model, RAW)
    advised = re.search(r"`entry: (\w+)`", str(warning.help))
    assert advised and not load_state(model, path, entry=advised[1]).warnings


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": {**under("student.", RAW), **under("teacher.", AVERAGE)}},
        {"student": RAW, "teacher": AVERAGE, "epoch": 3},
        {"student": {"state_dict": RAW}, "teacher": {"state_dict": AVERAGE}},
    ],
)
def test_two_that_fit_are_not_guessed(content: Any, tmp_path: Path) -> None:
    path, model = save(tmp_path, content), Holder()
    help_ = refused("QS960", "`student.*teacher", model, path)
    advised = re.search(r"`entry: (\w+)`", help_)
    assert advised and advised[1] == "student"
    load_state(model, path, entry="student")
    demand_loaded(model, RAW)
    load_state(model, path, entry="teacher")
    demand_loaded(model, AVERAGE)


def test_two_places_that_fit_are_not_guessed() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = Net(), Net()

    help_ = refused("QS960", "at `left.` and `right.`", pair := Pair(), RAW)
    settings = yaml.safe_load(str(re.search(r"`(key_map: .*?)` in", help_)[1]))  # type: ignore[index]
    load_state(pair, RAW, allow_miss=True, **settings)
    assert torch.equal(pair.left.head.bias, RAW["head.bias"])


def test_a_model_with_both_copies_takes_both() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.ema = Net(), Net()

    model, state = Both(), {**under("net.", RAW), **under("ema.", AVERAGE)}
    assert not load_state(model, state).told
    assert torch.equal(model.net.head.bias, RAW["head.bias"])
    assert torch.equal(model.ema.head.bias, AVERAGE["head.bias"])


def test_an_entry_that_is_absent(tmp_path: Path) -> None:
    path = save(tmp_path, {"model": RAW, "model_ema": AVERAGE})
    assert "`model_ema`" in refused("QS902", "no entry `modelema`", Net(), path, entry="modelema")


# -- files that do not fit: the proposed settings are followed -----------------------------------


def renamed(state: State, names: dict[str, str]) -> State:
    for theirs, ours in names.items():
        state = {re.sub(f"^{theirs}\\.", f"{ours}.", k): v for k, v in state.items()}
    return state


MISFITS: dict[str, State] = {
    "a head for other classes": trained(4, classes=5),
    "no head": {k: v for k, v in trained(4).items() if "head" not in k},
    "another head": {**{k: v for k, v in trained(4).items() if "head" not in k},
                     "fc.1.weight": torch.ones(7, 4), "fc.1.bias": torch.ones(7)},
    "a renamed head": renamed(trained(4), {"head": "fc"}),
    "a renamed head behind a wrapper": under("module.", renamed(trained(4), {"head": "fc"})),
    "all renamed": renamed(trained(4), {"stem.0": "c1", "stem.1": "b1", "body.0": "c2",
                                        "body.1": "b2", "head": "out"}),
    "two renamed": renamed(trained(4), {"stem": "conv_stem", "body": "conv_body"}),
    "more than the model": {**trained(4), "aux.weight": torch.ones(3), "loss.w": torch.ones(2)},
}  # fmt: skip


@pytest.mark.parametrize("model", [Net, Holder])
@pytest.mark.parametrize("misfit", MISFITS)
def test_proposed_settings_work(misfit: str, model: type[nn.Module], tmp_path: Path) -> None:
    target = model()
    path = save(tmp_path, MISFITS[misfit])
    help_ = refused("QS902", "does not fit", target, path)
    advised = re.search(r"`solver`: `(.*)`$", help_)
    assert advised, help_
    settings = yaml.safe_load("{" + advised[1] + "}")
    before = target.state_dict()["net.head.bias" if model is Holder else "head.bias"].clone()
    load_state(target, path, **settings)
    net = target.net if isinstance(target, Holder) else target
    state = MISFITS[misfit]
    body = next(v for k, v in state.items() if v.shape == (4, 4, 3, 3))
    assert torch.equal(net.body[0].weight, body)
    if "renamed" in misfit:
        assert "fresh" not in settings
        assert torch.equal(net.head.bias, list(state.values())[-1])
    elif "more" not in misfit:
        assert torch.equal(net.head.bias, before) and "head" in settings["fresh"][0]


def test_another_network_gets_no_settings(tmp_path: Path) -> None:
    other = nn.Sequential(*(nn.Linear(3 + n, 4 + n) for n in range(40)))
    with pytest.raises(DiagnosticError) as caught:
        load_state(Holder(), save(tmp_path, other.state_dict()))
    (found,) = caught.value.diagnostics
    assert found.help is not None and "`solver`" not in found.help
    assert 4 < len(found.notes) <= 32  # a table, not a line for each of 94 keys
    rows = [note.text for note in found.notes]
    assert "lacks `net.stem.0`: bias, weight" in rows
    assert any(re.fullmatch(r"has unknown \d+ more", row) for row in rows), rows


def test_the_table_is_sorted_by_number_and_grouped() -> None:
    deep = nn.ModuleDict({"a": nn.Sequential(*(nn.Linear(1, 1) for _ in range(12)))})
    with pytest.raises(DiagnosticError) as caught:
        load_state(deep, {"b": torch.ones(3)})
    rows = [note.text for note in caught.value.diagnostics[0].notes]
    assert rows[0] == "lacks `a`: 0.bias, 0.weight, 1.bias, 1.weight, ... (24 in all)"


def test_patterns_that_match_nothing() -> None:
    refused("QS902", r"`\^top` matches no key of the model", Net(), trained(), fresh=["^top"])
