"""Weights that are computed from other parameters train as they are and lower as computed."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.utils.parametrizations as P
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from qatspec.diag import DiagnosticError
from qatspec.export import export_qat_onnx
from qatspec.lower import lower
from qatspec.prepare import prepare, set_stage
from qatspec.train.checkpoint import load_weights

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Wrap = Callable[[nn.Module], nn.Module]


class Symmetric(nn.Module):
    """A parametrization of the user's own."""

    def forward(self, w: Tensor) -> Tensor:
        return (w + w.flip(0)) / 2


class Branch(nn.Module):
    """One that branches on the numbers of the weight."""

    def forward(self, w: Tensor) -> Tensor:
        return w / w.abs().max() * 0.1 if w.abs().max() > 0.1 else w


class Numbers(nn.Module):
    """One that loops as often as the weight says, and leaves torch."""

    def forward(self, w: Tensor) -> Tensor:
        for _ in range(int(w.abs().sum().item() * 10) % 3 + 1):
            w = w * float(0.5 + np.abs(w.detach().numpy()).max())
        return w - w[w > 0].mean() * 0.1


def _old(norm: Wrap) -> Wrap:
    def wrap(module: nn.Module) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return norm(module)

    return wrap


def _custom(name: str, part: Callable[[], nn.Module] = Symmetric) -> Wrap:
    def wrap(module: nn.Module) -> nn.Module:
        parametrize.register_parametrization(module, name, part())
        return module

    return wrap


def _pruned(module: nn.Module) -> nn.Module:
    prune.l1_unstructured(module, "weight", amount=0.5)
    prune.random_unstructured(module, "weight", amount=0.1)  # a PruningContainer
    prune.l1_unstructured(module, "bias", amount=1)
    return module


def _two(module: nn.Module) -> nn.Module:
    return _custom("bias")(P.weight_norm(module))


WRAPS: dict[str, Wrap] = {
    "weight_norm": P.weight_norm,
    "spectral_norm": P.spectral_norm,
    "orthogonal": P.orthogonal,
    "custom": _custom("weight"),
    "custom bias": _custom("bias"),
    "branches": _custom("weight", Branch),
    "branches for the bias": _custom("bias", Branch),
    "numbers": _custom("weight", Numbers),
    "weight_norm and custom bias": _two,
    "old weight_norm": _old(nn.utils.weight_norm),
    "old spectral_norm": _old(nn.utils.spectral_norm),
    "pruned": _pruned,
    "pruned after old weight_norm": lambda m: prune.l1_unstructured(
        _old(nn.utils.weight_norm)(m), "bias", 1
    ),
}
NETS: dict[str, Callable[[Wrap], nn.Module]] = {
    "conv": lambda w: nn.Sequential(w(nn.Conv2d(3, 4, 3)), nn.ReLU(), nn.Conv2d(4, 2, 1)),
    "conv and bn": lambda w: nn.Sequential(w(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4), nn.ReLU()),
    "transposed": lambda w: nn.Sequential(w(nn.ConvTranspose2d(3, 4, 2, 2)), nn.ReLU()),
    "linear": lambda w: nn.Sequential(nn.Flatten(), w(nn.Linear(192, 4))),
}


def _net(wrap: str, kind: str) -> nn.Module:
    torch.manual_seed(0)
    net = NETS[kind](WRAPS[wrap])
    with torch.no_grad():
        for _ in range(20):  # the power iteration of spectral_norm settles
            net(X)
    return net.eval()


def _float_keys(model: nn.Module) -> list[str]:
    marks = ("fake_quant", "activation_post_process")
    return [key for key in model.state_dict() if not any(mark in key for mark in marks)]


def _program_equals(prepared, x: Tensor) -> None:
    """The integers are those of the fake-quant model in eval, or one step away at a tie."""
    program = lower(prepared, (x,))
    got = program.dequantize(program.run(*program.quantize(x.numpy())))[0]
    with torch.no_grad():
        want = prepared.model.eval()(x).numpy()
    step = float(program.outputs[0].scale[0])
    assert np.abs(got - want).max() <= 1.01 * step
    assert (np.abs(got - want) > step / 2).sum() <= max(1, 0.02 * got.size)


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("wrap", WRAPS)
def test_trains_and_lowers(wrap: str, kind: str, tmp_path: Path) -> None:
    net = _net(wrap, kind)
    with torch.no_grad():
        expected = net(X)
    prepared = prepare(net, (X,), qconfig="horizon_calibration")
    assert _float_keys(prepared.model) == list(net.state_dict())
    assert not any(type(v).__name__ == "FakeTensor" for m in prepared.model.modules()
                   for v in vars(m).values())  # fmt: skip
    with torch.no_grad():
        torch.testing.assert_close(prepared.model(X), expected)
    set_stage(prepared, "qat")
    optimizer = torch.optim.SGD(prepared.model.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        prepared.model(X).square().mean().backward()
        trained = [n for n, p in prepared.model.named_parameters() if p.grad is not None]
        assert set(trained) >= {n for n, _ in net.named_parameters()}
        optimizer.step()
    set_stage(prepared, "eval")
    with torch.no_grad():
        out = prepared.model(X)
        path = "1" if kind == "linear" else "0"
        parameters = {k: v for k, v in prepared.model.state_dict().items() if k in net.state_dict()}
        net.load_state_dict(parameters)
        assert (net(X) - out).norm() < 0.1 * out.norm()
        torch.testing.assert_close(
            prepared.model.get_submodule(path).weight, net.get_submodule(path).weight
        )
    _program_equals(prepared, X)
    export_qat_onnx(prepared, tmp_path / "net.onnx", (X,))
    onnx.checker.check_model(onnx.load(tmp_path / "net.onnx"))


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("wrap", WRAPS)
def test_qat_starts_from_a_calibration_checkpoint(wrap: str, kind: str) -> None:
    """Without a forward in between: the scales come from the computed weights."""
    net = _net(wrap, kind)
    calibrated = prepare(net, (X,), qconfig="horizon_calibration")
    with torch.no_grad():
        expected = calibrated.model(X)
    prepared = prepare(net, (X,), qconfig="horizon_calibrated")
    load_weights(prepared.model, calibrated.model.state_dict(), source=Path("calibration"))
    set_stage(prepared, "qat")
    set_stage(prepared, "eval")
    with torch.no_grad():
        out = prepared.model(X)
    assert (out - expected).norm() < 0.1 * expected.norm()


def _pickled(model: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("way", [copy.deepcopy, _pickled])
@pytest.mark.parametrize("wrap", WRAPS)
def test_a_copy_computes_its_own_weight(wrap: str, way: Callable[[nn.Module], nn.Module]) -> None:
    if way is _pickled and wrap.startswith("weight_norm"):
        pytest.skip("torch's own hook on loading, a local function, cannot be pickled")
    model = prepare(_net(wrap, "conv"), (X,), qconfig="horizon_qat").model
    again = way(model)
    with torch.no_grad():
        for parameter in again.get_submodule("0").parameters():
            parameter.mul_(3)
        torch.testing.assert_close(model(X), _net(wrap, "conv")(X))
        assert not torch.allclose(model(X), again(X))
    assert list(again.state_dict()) == list(model.state_dict())


class _Own(nn.Module):
    """A layer with a weight of its own that torch.nn knows nothing of."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.bias = nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.weight, self.bias)


READ = ("branches", "branches for the bias", "numbers")


@pytest.mark.parametrize("wrap", READ)
def test_code_that_reads_numbers_is_refused_in_a_layer_of_the_users_own(wrap: str) -> None:
    """Its code is traced with the layer's; in a layer of torch it is not."""
    net = nn.Sequential(WRAPS[wrap](_Own()), nn.ReLU()).eval()
    with pytest.raises(DiagnosticError) as caught:
        prepare(net, (X,), qconfig="horizon_qat")
    assert {d.code for d in caught.value.diagnostics} == {"QS501"}


@pytest.mark.parametrize("wrap", [w for w in WRAPS if w not in ("old spectral_norm", *READ)])
def test_in_a_layer_of_the_users_own(wrap: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(WRAPS[wrap](_Own()), nn.ReLU()).eval()
    with torch.no_grad():
        expected = net(X)
        prepared = prepare(net, (X,), qconfig="horizon_qat")
        torch.testing.assert_close(prepared.model(X), expected)
    assert _float_keys(prepared.model) == list(net.state_dict())
    set_stage(prepared, "qat")
    prepared.model(X).sum().backward()
    set_stage(prepared, "eval")
    _program_equals(prepared, X)


def test_a_power_iteration_in_a_users_layer_is_refused_and_the_new_form_works() -> None:
    net = nn.Sequential(_old(nn.utils.spectral_norm)(_Own()))
    with pytest.raises(DiagnosticError) as caught:
        prepare(net, (X,), qconfig="horizon_qat")
    (problem,) = caught.value.diagnostics
    assert problem.code == "QS508" and "parametrizations.spectral_norm" in str(problem.help)
    nn.utils.remove_spectral_norm(net[0])
    prepare(nn.Sequential(P.spectral_norm(net[0])), (X,), qconfig="horizon_qat")


def test_a_shared_conv_with_several_batch_norms() -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = P.weight_norm(nn.Conv2d(3, 4, 3))
            self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            return self.norms[0](self.conv(x)) + self.norms[1](self.conv(-x))

    torch.manual_seed(0)
    net = Head().eval()
    with torch.no_grad():
        prepared = prepare(net, (X,), qconfig="horizon_qat")
        torch.testing.assert_close(prepared.model(X), net(X))
    set_stage(prepared, "qat")
    prepared.model(X).sum().backward()
    set_stage(prepared, "eval")
    _program_equals(prepared, X)
