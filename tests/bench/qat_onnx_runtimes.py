"""The QAT ONNX in the runtimes that are installed, against the fake-quant model: largest and mean
difference in output steps, and what kernels the runtime made of it.

    python tests/bench/qat_onnx_runtimes.py

onnxruntime, and OpenVINO where it is installed (`pip install openvino`, best in a venv of its own
beside qatspec). Also says what TensorRT's written rules find.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from qatspec.graph import Prepared
from qatspec.lower import lower
from qatspec.onnx import export_qat_onnx
from qatspec.onnx.tensorrt import tensorrt_findings
from tests.nets import conv_bn, settle

Ran = tuple[list[np.ndarray], Counter[str]]


class Plain(nn.Module):
    """Convolutions, clamps, a pool, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv_bn(3, 16, 3, 2), nn.ReLU(), conv_bn(16, 16, 3, 1, 16), nn.ReLU6(),
            conv_bn(16, 32, 1), nn.ReLU(), nn.MaxPool2d(2), conv_bn(32, 32, 3), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class Residual(Plain):
    """The same with residual sums and a gate."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = list(self.layers)
        x = parts[1](parts[0](x))
        x = parts[3](parts[2](x)) + x
        x = parts[6](parts[5](parts[4](x)))
        x = x + parts[8](parts[7](x))
        x = x * torch.sigmoid(x.mean((2, 3), keepdim=True))
        return parts[11](parts[10](parts[9](x)))


def in_onnxruntime(path: Path, x: np.ndarray) -> Ran:
    import onnxruntime

    optimized = path.with_name("optimized.onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(optimized)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: x})
    return found, Counter(node.op_type for node in onnx.load(optimized).graph.node)


def in_openvino(path: Path, x: np.ndarray) -> Ran:
    import openvino

    compiled = openvino.Core().compile_model(path, "CPU")
    found = compiled([x])
    kernels: Counter[str] = Counter()
    for op in compiled.get_runtime_model().get_ordered_ops():
        info = op.get_rt_info()
        kind, precision = (str(info[key].astype(str)) for key in ("layerType", "runtimePrecision"))
        kernels[f"{kind}:{precision}"] += 1
    return [found[o] for o in compiled.outputs], kernels


RUNTIMES: dict[str, Callable[[Path, np.ndarray], Ran]] = {
    "onnxruntime": in_onnxruntime,
    "openvino": in_openvino,
}


def compare(name: str, prepared: Prepared, x: torch.Tensor) -> None:
    with torch.no_grad():
        expected = prepared.model(x).numpy()
    step = float(lower(prepared, (x,)).outputs[0].scale.max())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "qat.onnx"
        export_qat_onnx(prepared, path, (x,))
        rules = tensorrt_findings(onnx.load(path))
        print(f"{name}: TensorRT's rules: {rules or 'kept'}")
        for runtime, run in RUNTIMES.items():
            try:
                (found,), kernels = run(path, x.numpy())
            except ImportError:
                print(f"  {runtime}: not installed")
                continue
            steps = np.abs(found - expected) / step
            print(f"  {runtime}: largest {steps.max():.2f} steps, mean {steps.mean():.4f}")
            print("   ", ", ".join(f"{kind} {count}" for kind, count in kernels.most_common()))


def main() -> None:
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    x = torch.randn(4, 3, 64, 64)
    for net in (Plain(), Residual()):
        compare(type(net).__name__, settle(net, x, quantize_output=True), x)


if __name__ == "__main__":
    main()
