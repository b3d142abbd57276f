"""Products in a reduced precision are those of the integers, up to the rounding of the result."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from qatspec.prepare import prepare, set_stage
from qatspec.prepare.products import reduce_products
from qatspec.quant.modules import QuantOp
from qatspec.types import QConfig, QSpec

#: Relative rounding of a result to the format.
ROUNDING = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8, bias=False)
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2, groups=2)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.norm(self.stem(x)).relu()
        x = self.up(self.pool(self.depthwise(x)))
        return self.head(x.permute(0, 2, 3, 1))


X = torch.randn(2, 3, 10, 10, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def calibrated():
    torch.manual_seed(0)
    net = Net()
    nn.init.normal_(net.norm.weight)  # of either sign
    qconfig = QConfig(activation=QSpec(fake_quant="fixed"), weight=QSpec(ch_axis=0))
    prepared = prepare(net, (X,), qconfig=qconfig)
    set_stage(prepared, "calibration")
    prepared.model(X)
    set_stage(prepared, "qat")
    return prepared


def layers(prepared) -> dict[str, QuantOp]:
    return {n: m for n, m in prepared.model.named_modules() if isinstance(m, QuantOp)}


def inputs_of(prepared) -> dict[str, list]:
    prepared, seen = copy.deepcopy(prepared), {}
    hooks = [
        module.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args}))
        for name, module in layers(prepared).items()
    ]
    prepared.model(X)
    for hook in hooks:
        hook.remove()
    return {n: [a if a is None else a.detach() for a in args] for n, args in seen.items()}


def outputs(calibrated, dtype, frozen) -> dict[str, tuple[torch.Tensor, torch.Tensor, float]]:
    """Result, gradient of the input, and largest bias of each layer."""
    prepared = copy.deepcopy(calibrated)  # scales of weights and batch norms move with each call
    reduce_products(prepared, dtype)
    made = {}
    for name, args in inputs_of(calibrated).items():
        module = layers(prepared)[name]
        module.frozen = frozen
        assert (module.products is not None) == (dtype is not None), name
        args = [a if a is None else a.clone().requires_grad_() for a in args]
        bias = module.folded(*args[1:])[1]
        y = module(*args)
        y.backward(torch.sin(torch.arange(y.numel())).reshape(y.shape))
        made[name] = y.detach(), args[0].grad, 0.0 if bias is None else float(bias.abs().max())
    return made


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("dtype", list(ROUNDING))
def test_layers_multiply_integers(calibrated, dtype, frozen):
    exact, reduced = (outputs(calibrated, d, frozen) for d in (None, dtype))
    assert len(exact) == 4
    for name, (y, gradient, bias) in exact.items():
        near, near_gradient, _ = reduced[name]
        assert near.dtype == near_gradient.dtype == torch.float32
        if name != "norm" or frozen:  # else the batch norm behind it scales what is left
            assert ((near - y).abs() <= 1.01 * ROUNDING[dtype] * (y.abs() + bias)).all(), name
        cosine = nn.functional.cosine_similarity(gradient.flatten(), near_gradient.flatten(), dim=0)
        assert cosine > 1 - 20 * ROUNDING[dtype] ** 2, name


def test_evaluation_and_other_grids_stay_in_float32(calibrated):
    prepared = copy.deepcopy(calibrated)
    set_stage(prepared, "eval")
    exact = prepared.model(X)
    reduce_products(prepared, torch.bfloat16)
    assert torch.equal(prepared.model(X), exact)
    head = layers(prepared)["head"]
    assert head.products.fit(head.weight_fake_quant)
    head.weight_fake_quant.qspec = QSpec(dtype="qint16", ch_axis=0)
    assert not head.products.fit(head.weight_fake_quant)


def test_a_gradient_as_near_as_the_format(calibrated):
    """Of the whole model: torch's autocast would round scaled values, off their grids."""
    gradients = []
    for dtype in (None, torch.bfloat16):
        prepared = copy.deepcopy(calibrated)
        reduce_products(prepared, dtype)
        prepared.model(X).square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in prepared.model.parameters()]))
    assert nn.functional.cosine_similarity(*gradients, dim=0) > 0.999
