"""Nets that prepare and lower; one of them has every op there is."""

from __future__ import annotations

import onnx
import torch
import torch.nn.functional as F
from torch import nn

from qatspec.graph import Prepared
from qatspec.prepare import prepare, set_stage


def conv_bn(cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(cout))


class Everything(nn.Module):
    """Folds, residuals, gates, pools, resizes, cats, shape ops, tables; three int32 tails."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 8, 3, 2)
        self.depthwise = conv_bn(8, 8, 5, 1, 8)
        self.project = conv_bn(8, 8, 1)
        self.squeeze = nn.Conv2d(8, 8, 1)
        self.pool, self.average = nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2)
        self.up = nn.ConvTranspose2d(8, 4, 4, 2, 1)
        self.slope = nn.PReLU(8)
        self.row = nn.Conv1d(8, 6, 3, padding=1)
        self.head, self.head2 = nn.Conv2d(16, 5, 1), nn.Conv2d(4, 3, 3, padding=1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        a = F.relu(self.stem(x))
        b = F.relu6(self.depthwise(a))
        b = self.project(b) + a
        gated = b * torch.sigmoid(self.squeeze(b.mean((2, 3), keepdim=True)))
        gated = self.slope(F.hardswish(gated) - 0.25 * gated)
        near = F.interpolate(self.pool(gated), scale_factor=2)
        far = F.interpolate(self.average(gated), scale_factor=2.0, mode="bilinear")
        left, right = torch.cat([near, far], 1).chunk(2, 1)
        joined = torch.cat([right, F.pad(left[:, :, 1:], (0, 0, 1, 0))], 1)
        line = self.row(gated.transpose(2, 3).flatten(2))
        pooled = F.adaptive_avg_pool2d(b, 1).flatten(1)
        return {"maps": [self.head(joined), self.head2(self.up(gated))], "fc": self.fc(pooled),
                "line": line}  # fmt: skip


def check_onnx(path) -> None:
    """The strict checker, strict shape inference with data propagation, and a symbolic batch at
    every port."""
    onnx.checker.check_model(onnx.load(path), full_check=True)
    strict = {"check_type": True, "strict_mode": True, "data_prop": True}
    graph = onnx.shape_inference.infer_shapes(onnx.load(path), **strict).graph
    for port in (*graph.input, *graph.output):
        sizes = port.type.tensor_type.shape.dim
        assert sizes[0].dim_param == "batch", port.name
        assert all(size.dim_value > 0 for size in sizes[1:]), port.name
    told = {value.name for value in (*graph.value_info, *graph.output)}
    assert {name for node in graph.node for name in node.output} == told


def settle(model: nn.Module, *inputs: torch.Tensor, **options) -> Prepared:
    """prepare, observe the inputs, and freeze."""
    options = {"qconfig": "horizon_qat", "quantize_output": False, **options}
    for module in model.modules():  # batch norms that do something
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, -1.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    prepared = prepare(model, inputs, **options)
    with torch.no_grad():
        set_stage(prepared, "calibration")
        prepared.model(*inputs)
    set_stage(prepared, "qat")
    set_stage(prepared, "eval")
    return prepared
