"""Classes that additional_qat_module_mapping brings: integers where they compute what torch's class
does with its weight fake-quantized, else a diagnostic that says what is in the way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.diag import DiagnosticError
from qatspec.export import export_qat_onnx
from qatspec.lower import lower
from qatspec.prepare import prepare, set_stage
from qatspec.types import QConfig, QSpec

X = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
INT8 = QConfig(activation=QSpec(), weight=QSpec(ch_axis=0, averaging_constant=1.0))


class OwnConv(nn.Conv2d):
    """torch's convention."""

    @classmethod
    def from_float(cls, module: nn.Conv2d) -> OwnConv:
        new = cls(module.in_channels, module.out_channels, module.kernel_size)
        new.weight, new.bias = module.weight, module.bias
        new.weight_fake_quant = module.qconfig.weight()
        return new

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight_fake_quant(self.weight), self.bias)


class OtherConv(OwnConv):
    """Computes something else."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2


class NoConv(nn.Module):
    """No subclass of torch's. The class of a layer with as many outputs as one scale serves."""

    def __init__(self, module: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = module.weight, module.bias
        self.weight_fake_quant = module.qconfig.weight()

    @classmethod
    def from_float(cls, module: nn.Conv2d) -> NoConv:
        return cls(module)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight_fake_quant(self.weight), self.bias)


def _settled(cls, outputs: int = 4):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, outputs, 3), nn.ReLU())
    mapping = {"additional_qat_module_mapping": {nn.Conv2d: cls}}
    prepared = prepare(net, (X,), qconfig=INT8, prepare=mapping if cls else None)
    prepared.model(X)
    set_stage(prepared, "qat")
    prepared.model(X)
    set_stage(prepared, "eval")
    return prepared


@pytest.mark.parametrize("cls", [OwnConv, "torch.ao.nn.qat.Conv2d"])
def test_a_class_that_computes_what_ours_does_gives_the_same_integers(cls, tmp_path) -> None:
    results = []
    for chosen in (cls, None):
        prepared = _settled(chosen)
        program = lower(prepared, (X,))
        results.append(program.run(*program.quantize(X.numpy())))
        export_qat_onnx(prepared, tmp_path / f"{len(results)}.onnx")
    np.testing.assert_array_equal(*(r[0] for r in results))
    assert (results[0][0] != 0).any()


@pytest.mark.parametrize(
    ("cls", "outputs", "said"),
    [
        (OtherConv, 4, "`OtherConv` is not torch's conv or linear"),
        (NoConv, 1, "`NoConv` is not torch's conv or linear"),
        (NoConv, 4, "is per channel"),
    ],
)
def test_another_class_is_named(cls, outputs: int, said: str) -> None:
    prepared = _settled(cls, outputs)
    with pytest.raises(DiagnosticError, match=said) as caught:
        lower(prepared, (X,))
    assert "torch's" in caught.value.diagnostics[0].help


def test_another_class_is_not_written_as_a_float_conv(tmp_path) -> None:
    with pytest.raises(DiagnosticError, match="no ONNX form"):
        export_qat_onnx(_settled(OtherConv), tmp_path / "x.onnx")
