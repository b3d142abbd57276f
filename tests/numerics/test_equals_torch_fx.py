"""prepare against torch's prepare_qat_fx, where both define the same thing (rule: exact rounding).

torch multiplies by 1/scale where qatspec divides: a few elements per million land one step apart,
which the first test counts. The others give torch qatspec's rounding and compare everything else
over several training steps, in float64 so that no sum's last bit decides a rounding: outputs,
gradients, batch norm statistics and scales.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.prepare import prepare, set_stage
from qatspec.quant.fake_quant import FakeQuantize, fake_quantize
from qatspec.types import QConfig, QSpec

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.ao.quantization import (
        FakeQuantize as TorchFakeQuantize,
        QConfig as TorchQConfig,
        QConfigMapping,
    )
    from torch.ao.quantization.backend_config import (
        BackendConfig,
        DTypeConfig,
        ObservationType,
        get_native_backend_config,
    )
    from torch.ao.quantization.observer import (
        MovingAverageMinMaxObserver,
        MovingAveragePerChannelMinMaxObserver,
    )
    from torch.ao.quantization.quantize_fx import prepare_qat_fx

STEPS = 4
#: The largest number observed lies on 127.5 steps exactly, where the last bit of a sum decides:
#: both scales are this much larger.
NUDGE = 1 + 1e-6


@pytest.fixture
def nudged(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = FakeQuantize.set_scale
    monkeypatch.setattr(FakeQuantize, "set_scale", lambda self, scale: plain(self, scale * NUDGE))


class Rounding(TorchFakeQuantize):
    """torch's observer, with its scale kept in float64, and qatspec's division. In eval torch goes
    on observing; here it does not, by the rule "moving ranges"."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return fake_quantize(x, self.scale, -128, 127)
        observer = self.activation_post_process
        observer(x.detach())
        exact = torch.maximum(observer.min_val.abs(), observer.max_val.abs()) / 127.5
        scale, _ = self.calculate_qparams()
        torch.testing.assert_close(scale.double(), exact.reshape(scale.shape), rtol=1e-6, atol=0)
        self.scale.resize_(scale.shape)
        self.scale.copy_(exact * NUDGE)
        return fake_quantize(x, self.scale.clone(), -128, 127)


def test_kernels_agree_but_for_ties() -> None:
    x = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0))
    scale = torch.tensor([3.7 / 127.5])
    ours = fake_quantize(x, scale, -128, 127)
    theirs = torch.fake_quantize_per_tensor_affine(x, scale.item(), 0, -128, 127)
    apart = ((ours - theirs) / scale).abs()[(ours - theirs).abs() > 1e-6]
    assert (apart.round() == 1).all()
    assert len(apart) <= 100


class Net(nn.Module):
    """conv-bn-relu, depthwise conv-bn-relu, a conv without batch norm, a linear over the width.

    No pooling or reshaping: there torch calls one fake-quant again and again and lets it observe
    its own output, where qatspec shares the scale and observes once.
    """

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=bias)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=bias)
        self.bn2 = nn.BatchNorm2d(8)
        self.conv3 = nn.Conv2d(8, 6, 1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.fc(self.conv3(x))


class Summing(nn.Module):
    """A sum of two quantized branches, and one with the input: each has a fake-quant of its own.

    A sum right behind a conv is left out: qatspec fuses it and torch does not.
    """

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 3, 3, padding=1, bias=bias)
        self.bn1 = nn.BatchNorm2d(3)
        self.conv2 = nn.Conv2d(3, 3, 1, bias=bias)
        self.bn2 = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x))) + x
        z = F.relu(self.bn2(self.conv2(y)))
        return F.relu(torch.add(z, y))


class Joining(nn.Module):
    """Branches joined along the channels, behind them a conv that reads the whole."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=bias)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(3, 4, 1, bias=bias)
        self.bn2 = nn.BatchNorm2d(4)
        self.conv3 = nn.Conv2d(11, 4, 1, bias=bias)
        self.bn3 = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        left = F.relu(self.bn1(self.conv1(x)))
        right = self.bn2(self.conv2(x))
        return F.relu(self.bn3(self.conv3(torch.cat([left, right, x], 1))))


class Multiplying(nn.Module):
    """Linears with rectifiers, a product of two branches."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(8, 8, bias=bias), nn.Linear(8, 8, bias=bias)
        self.last = nn.Linear(8, 2, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.fc1(x)) * self.fc2(x))


#: net -> fake-quants of activations
NETS: dict[type[nn.Module], int] = {Net: 5, Summing: 5, Joining: 5, Multiplying: 5}


def _torch_prepared(model: nn.Module, x: Tensor) -> nn.Module:
    activation = Rounding.with_args(
        observer=MovingAverageMinMaxObserver,
        quant_min=-128,
        quant_max=127,
        dtype=torch.qint8,
        qscheme=torch.per_tensor_symmetric,
        averaging_constant=0.01,
    )
    weight = Rounding.with_args(
        observer=MovingAveragePerChannelMinMaxObserver,
        quant_min=-128,
        quant_max=127,
        dtype=torch.qint8,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        averaging_constant=1.0,
    )
    mapping = QConfigMapping().set_global(TorchQConfig(activation=activation, weight=weight))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return prepare_qat_fx(
            copy.deepcopy(model).train(), mapping, (x,), backend_config=_int8_backend()
        )


def _int8_backend() -> BackendConfig:
    """torch's native backend, with int8 activations allowed: as it stands it knows quint8 alone,
    and leaves every activation of an int8 qconfig in float without a word."""
    int8 = DTypeConfig(
        input_dtype=torch.qint8, output_dtype=torch.qint8, weight_dtype=torch.qint8,
        bias_dtype=torch.float,
    )  # fmt: skip
    backend = get_native_backend_config()
    for config in backend.configs:
        config.set_dtype_configs([int8])
        if config.pattern is torch.cat:  # the parts keep scales of their own, as qatspec has them
            config.set_observation_type(ObservationType.OUTPUT_USE_DIFFERENT_OBSERVER_AS_INPUT)
    return backend


def _ours(model: nn.Module, x: Tensor) -> nn.Module:
    qconfig = QConfig(
        activation=QSpec(observer="moving_average", averaging_constant=0.01),
        weight=QSpec(observer="moving_average", averaging_constant=1.0, ch_axis=0),
    )
    prepared = prepare(model, (x,), qconfig=qconfig)
    set_stage(prepared, "qat")
    return prepared.model


def _pairs(ours: nn.Module, theirs: nn.Module) -> list[tuple[str, Any, Any]]:
    """(name, ours, theirs) of every parameter and batch norm buffer: torch moves the batch norm
    below the conv (conv1.bn.weight), qatspec leaves it where it was."""
    state = dict(theirs.named_parameters()) | dict(theirs.named_buffers())
    pairs = []
    for name, tensor in (dict(ours.named_parameters()) | dict(ours.named_buffers())).items():
        if "fake_quant" in name or "post_process" in name:
            continue
        other = name if name in state else name.replace("bn", "conv").replace(".", ".bn.", 1)
        pairs.append((name, tensor, state[other]))
    return pairs


def _close(name: str, mine: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-9, msg=lambda m: f"{name}: {m}")


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("cls", NETS)
@pytest.mark.usefixtures("nudged")
def test_training_steps_agree(cls: type[nn.Module], bias: bool, seed: int) -> None:
    torch.manual_seed(seed)
    model = cls(bias)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, -1.5, 1.5)  # negative gammas too
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
    data = [torch.randn(8, 3, 8, 8, dtype=torch.float64) for _ in range(STEPS)]
    example = data[0].float()  # float64 is refused in prepare
    ours, theirs = _ours(model, example).double(), _torch_prepared(model, example).double()
    for net in (ours, theirs):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
        for x in data:
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
    for name, mine, other in _pairs(ours, theirs):
        _close(name, mine, other)
        if isinstance(mine, nn.Parameter):
            assert mine.grad is not None and other.grad is not None
            _close(f"{name}.grad", mine.grad, other.grad)
    mine_scales = sorted(
        m.scale.item() for n, m in ours.named_modules() if n.endswith("_post_process_0")
    )
    their_scales = sorted(
        m.scale.item()
        for m in theirs.modules()
        if isinstance(m, TorchFakeQuantize) and m.scale.numel() == 1
    )
    assert len(mine_scales) == NETS[cls]
    assert mine_scales == pytest.approx(their_scales, rel=1e-9)
    ours.eval(), theirs.eval()
    with torch.no_grad():
        _close("eval output", ours(data[0]), theirs(data[0]))
