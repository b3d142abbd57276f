"""Composite ops become what they consist of: float, fake-quant, integers and ONNX agree."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qatspec.api import DiagnosticError, lower, prepare, set_stage
from tests.forms import all_forms_agree
from tests.layers import Op

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(4))


def _constant(*shape: int) -> torch.Tensor:
    return torch.arange(math.prod(shape)).sin().reshape(shape)


CASES = {
    "flip": lambda x: x.flip(1, 2),
    "torch.flip": lambda x: torch.flip(x, [-1]),
    "roll": lambda x: torch.roll(x, (1, -2), (2, 3)),
    "roll by a whole size": lambda x: torch.roll(x, 8, 2),
    "repeat": lambda x: x.repeat(1, 2, 1, 1),
    "repeat with a new dim": lambda x: x.repeat(1, 1, 1, 1, 1)[0],
    "tile": lambda x: x.tile(1, 2, 1, 1),
    "repeat_interleave": lambda x: x.repeat_interleave(2, dim=3),
    "torch.repeat_interleave": lambda x: torch.repeat_interleave(x, 3, 1),
    "repeat_interleave of images": lambda x: x.repeat_interleave(3, 0).unflatten(0, (-1, 3)),
    "repeat_interleave by a size": lambda x: x.repeat_interleave(x.shape[3] // 4, -1),
    "picked by a list": lambda x: x[:, [2, 0, 1, 1]],
    "picked by a constant tensor": lambda x: x[:, :, torch.tensor([[0, 1], [-2, 3], [4, 5]])],
    "picked in front of an ellipsis": lambda x: x[:, [0, -1], ...],
    "picked behind an ellipsis": lambda x: x[..., [[0, -1]], 1:],
    "F.unfold": lambda x: F.unfold(x, 3, padding=1, stride=2),
    "F.unfold dilated": lambda x: F.unfold(x, (2, 3), dilation=(2, 1)),
    "F.fold": lambda x: F.fold(x.flatten(2).repeat(1, 9, 1)[:, :, :16], 8, 3, 1, 1, 2),
    "F.fold dilated": lambda x: F.fold(
        x.flatten(2)[:, :, :30], (8, 9), kernel_size=(2, 1), dilation=(2, 1), stride=(1, 2)
    ),
    "windows of dims": lambda x: x.unfold(2, 4, 2).unfold(3, 4, 2),
    "F.normalize": lambda x: F.normalize(x, dim=1),
    "F.normalize of rows": lambda x: F.normalize(x, p=2.0, dim=-1, eps=1e-3),
    "norm": lambda x: x.norm(dim=1, keepdim=True),
    "vector_norm": lambda x: torch.linalg.vector_norm(x, ord=2, dim=(2, 3)),
    "rms_norm": lambda x: F.rms_norm(x, (8,)),
    "addcmul": lambda x: torch.addcmul(x, x, x.flip(3), value=0.5),
    "addcdiv": lambda x: torch.addcdiv(x, x, x.abs() + 1),
    "square": lambda x: x.square(),
    "lerp": lambda x: torch.lerp(x, x.flip(1), 0.3),
    "clamp by constants": lambda x: x.clamp(torch.tensor(-0.25), torch.tensor([0.5])),
    "clamp by infinite constants": lambda x: torch.clamp(
        x, torch.tensor(-math.inf), torch.tensor(math.inf)
    ),
    "clamp of each row": lambda x: x.clamp(max=_constant(8, 1)),
    "clamp by the input": lambda x: torch.clip(x, max=x.flip(3)),
    "clamp_min": lambda x: x.clamp_min(-0.5),
    "clamp_max": lambda x: torch.clamp_max(x, max=0.25),
    "addmm": lambda x: torch.addmm(_constant(5), x.mean((2, 3)), _constant(4, 5)),
    "addmm with factors": lambda x: torch.addmm(
        _constant(5), x.mean((2, 3)), _constant(4, 5), beta=0.5, alpha=2.0
    ),
    "einsum of matrices": lambda x: torch.einsum("nchw,ncvw->nchv", x, x),
    "einsum over two letters": lambda x: torch.einsum("nchw,ndhw->ncd", x, x),
    "einsum in another order": lambda x: torch.einsum("bhij, bhjd -> bihd", x, x),
    "einsum with a constant": lambda x: torch.einsum("bhwc,hkc->bhwk", x, _constant(4, 5, 8)),
    "einsum with a constant of another place": lambda x: torch.einsum(
        "bhwc,wkc->bhwk", x, _constant(8, 3, 8)
    ),
    "einsum as a linear layer": lambda x: torch.einsum("bnhd,kd->bnhk", x, _constant(5, 8)),
    "einsum of elements": lambda x: torch.einsum("nchw,nchw->nchw", x, x.flip(1)),
    "einsum of elements with a constant": lambda x: torch.einsum(
        "nc,cd->ncd", x.mean((2, 3)), _constant(4, 5)
    ),
    "einsum of one tensor": lambda x: torch.einsum("nchw->nwc", x),
    "einsum without an arrow": lambda x: torch.einsum("bchw,w", x, _constant(8)),
    "einsum with dots": lambda x: torch.einsum("...cv,...vw", x, _constant(8, 3)),
    "einsum over letters of one": lambda x: torch.einsum("nchw,nkhv->nck", x, x),
    "einsum of a constant first": lambda x: torch.einsum("kc,nchw->nkhw", _constant(5, 4), x),
    "einsum of three": lambda x: torch.einsum("nchw,c,nkhw->nck", x, _constant(4), x),
    "einsum with a number": lambda x: torch.einsum("nchw,->nhcw", x, torch.tensor(0.5)),
    ".to(dtype)": lambda x: x.to(x.dtype),
    ".to(device)": lambda x: x.to(x.device),
    ".type_as": lambda x: x.type_as(x),
    "numbers .to a tensor": lambda x: x * torch.arange(x.shape[-1]).to(x),
    ".new_tensor": lambda x: x * x.new_tensor([0.5, 1.0, 1.5, 2.0])[:, None, None],
    ".float": lambda x: x.float(),
    ".data": lambda x: x.view(*x.data.size()),
    "computed from .data": lambda x: x + x.data.mean(1, keepdim=True),
}


def net_of(compute) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), Op(compute)).eval()


@pytest.mark.parametrize("name", CASES)
def test_all_forms_agree(name, tmp_path):
    # a step of each of several ops
    all_forms_agree(net_of(CASES[name]), X, tmp_path, noise=0.1, steps=5.01)


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: x.to(torch.float64),
        lambda x: x.half().float(),
        lambda x: torch.einsum("nchh->nch", x),
        lambda x: x[:, x.sum((0, 2, 3)).argsort()],
        lambda x: x[[1, 0]],
    ],
)
def test_what_has_no_such_form_is_refused(compute):
    with pytest.raises(DiagnosticError):
        prepared = prepare(net_of(compute), (X,), qconfig="horizon_qat", quantize_output=True)
        prepared.model(X)
        set_stage(prepared, "eval")
        lower(prepared, (X,))
