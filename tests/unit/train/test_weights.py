"""Weights that another project named: files, key maps, and what is said where they do not fit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from qatspec.diag import DiagnosticError
from qatspec.train.checkpoint import load_weights
from qatspec.train.entries import weights_of
from qatspec.train.key_maps import mapped
from qatspec.train.weights import read_weights


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 2)


#: Net's keys as another project may have them.
HAT = {"stem.0": "module.backbone.conv", "stem.1": "module.backbone.bn", "head": "module.fc"}
PAIRS = [(r"^module\.", ""), (r"backbone\.conv", "stem.0"), (r"backbone\.bn", "stem.1"),
         (r"^fc\.", "head.")]  # fmt: skip


def foreign(net: nn.Module) -> dict[str, torch.Tensor]:
    return {
        f"{HAT[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": value
        for key, value in net.state_dict().items()
    }


def fit(state: Any, key_map: Any) -> dict[str, torch.Tensor]:
    return mapped(state, key_map, Net(), source=Path("hat.pth.tar"), at="/key_map")


def test_hats_layout_by_pairs(tmp_path: Path) -> None:
    torch.manual_seed(1)
    trained, fresh = Net(), Net()
    path = tmp_path / "float-checkpoint-best.pth.tar"
    torch.save({"epoch": 3, "step": 9, "devices": [0], "state_dict": foreign(trained)}, path)
    state = mapped(read_weights(path).tensors, PAIRS, fresh, source=path, at="")
    load_weights(fresh, state, source=path)
    for key, value in trained.state_dict().items():
        torch.testing.assert_close(fresh.state_dict()[key], value, rtol=0, atol=0)


def test_a_key_may_be_left_out() -> None:
    state = {**foreign(Net()), "module.loss.weight": torch.ones(1)}
    assert "loss.weight" in fit(state, PAIRS)
    assert set(fit(state, [*PAIRS, (r"^loss\.", None)])) == set(Net().state_dict())


def test_a_pair_that_matches_nothing_is_told() -> None:
    with pytest.raises(DiagnosticError, match=r"`\^neck` matches no key of `hat.pth.tar`") as found:
        fit(foreign(Net()), [*PAIRS, ("^neck", "x")])
    (diagnostic,) = found.value.diagnostics
    assert (diagnostic.code, diagnostic.at) == ("QS902", "/key_map/4")
    assert "`stem.0.weight`" in str(diagnostic.help)


def test_two_keys_that_become_one_are_told() -> None:
    with pytest.raises(DiagnosticError, match=r"makes `stem\.0\.weight` of both"):
        fit(foreign(Net()), [(r".*\.weight", "stem.0.weight")])


def test_unmapped_keys_are_named_when_loaded() -> None:
    net = Net()
    with pytest.raises(
        DiagnosticError, match=r"lacks 2 keys \(head\.weight, .*unknown 2 .*\(fc\.w"
    ):
        load_weights(net, fit(foreign(net), PAIRS[:3]), source=Path("hat.pth.tar"))


def test_by_order() -> None:
    torch.manual_seed(2)
    trained = Net()
    state = {
        f"k{i}.{k.rpartition('.')[2]}": v for i, (k, v) in enumerate(trained.state_dict().items())
    }
    state = {k: v for k, v in state.items() if "num_batches" not in k}
    found = fit(state, "by_order")
    assert set(found) == set(trained.state_dict())
    torch.testing.assert_close(found["head.weight"], trained.head.weight.detach(), rtol=0, atol=0)


def last_left_out(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: state[key] for key in list(state)[:-1]}


def one_turned(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value.T if value.dim() == 2 else value for key, value in state.items()}


def one_renamed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.replace("running_mean", "mean"): value for key, value in state.items()}


def one_more(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {**state, "b.bias": torch.ones(5)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (one_more, r"has `b\.bias` \(5,\) where the model \(8\) has no more"),
        (last_left_out, r"has no more tensors where the model \(8\) has `head\.bias`"),
        (one_turned, r"has `head\.weight` \(4, 2\) where the model \(8\) has .* \(2, 4\)"),
        (one_renamed, r"has `stem\.1\.mean` \(4,\) where the model \(8\) has .*running_mean"),
    ],
)
def test_orders_that_do_not_fit(change: Any, words: str) -> None:
    with pytest.raises(DiagnosticError, match=words) as found:
        fit(change(dict(Net().state_dict())), "by_order")
    assert found.value.diagnostics[0].code == "QS902"


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"no weights", "QS901"), ([1, 2], "QS901"), ({"epoch": 3}, "QS901"), (print, "QS901")],
)
def test_files_that_hold_no_weights(content: Any, code: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(DiagnosticError) as found:
        read_weights(path)
    assert found.value.diagnostics[0].code == code
    with pytest.raises(DiagnosticError) as found:
        read_weights(tmp_path / "absent.pth")
    assert found.value.diagnostics[0].code == "QS905"


RAW = {"a": torch.zeros(2), "b": torch.zeros(3), "a.running_mean": torch.zeros(2)}
AVERAGED = {key: value + 1 for key, value in RAW.items()}
WRAPPED = {"n_averaged": torch.tensor(7), **{f"module.{k}": v for k, v in AVERAGED.items()}}


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": RAW, "ema": {"state_dict": AVERAGED, "steps": 4}},  # qatspec
        {"state_dict": RAW, "state_dict_ema": AVERAGED},  # timm
        {"model": RAW, "model_ema": WRAPPED},  # torchvision's references
        {"model": RAW, "ema": {"module": AVERAGED, "updates": 9}},  # RT-DETR
        {"state_dict": RAW, "ema_state_dict": AVERAGED},
        {"model_state_dict": RAW, "ema": {"shadow": AVERAGED, "decay": 0.9}},
        {"ema": AVERAGED, "epoch": 4},
        {**RAW, "ema": AVERAGED},
    ],
)
def test_the_weights_of_a_checkpoint_are_the_average(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    found = read_weights(path).tensors
    assert list(found) == list(RAW)
    assert all(torch.equal(found[key], value) for key, value in AVERAGED.items())


@pytest.mark.parametrize(
    "content",
    [
        RAW,
        {"state_dict": RAW},
        {"state_dict": RAW, "ema": None},
        {"state_dict": RAW, "ema": 0.999},
        {"state_dict": RAW, "ema": {"decay": 0.99, "updates": torch.tensor(5)}},
        {"model": RAW, "model_ema": {"other.weight": torch.ones(4)}},
    ],
)
def test_without_an_average_they_are_the_raw_weights(content: Any) -> None:
    found = weights_of(content).tensors
    assert list(found) == list(RAW)
    assert all(torch.equal(found[key], value) for key, value in RAW.items())


def test_the_raw_keys_may_have_the_prefix_of_a_wrapper() -> None:
    raw = {f"module.{key}": value for key, value in RAW.items()}
    for average in (AVERAGED, WRAPPED):
        found = weights_of({"model": raw, "model_ema": average}).tensors
        assert list(found) == list(raw)
        assert all(torch.equal(found[f"module.{k}"], value) for k, value in AVERAGED.items())


def test_what_is_not_averaged_is_raw() -> None:
    found = weights_of({"state_dict": RAW, "ema": {"shadow": {"a": AVERAGED["a"]}}}).tensors
    assert torch.equal(found["a"], AVERAGED["a"])
    assert all(torch.equal(found[key], RAW[key]) for key in ("b", "a.running_mean"))
