"""The QAT ONNX in the runtimes that are installed: how far from the fake-quant model, and what
kernels the runtime made of it, for every march.

    python tests/bench/qat_onnx_runtimes.py [--net shortcut] [--march bayes]

onnxruntime, and OpenVINO where it is installed (`pip install openvino`, best in a venv of its own
beside qatspec). Also says what TensorRT's written rules find. Exit code 1 where a runtime in its
exact setting is more than a step away, or where what must run in integers does not.

Three nets: `plain` has convolutions, clamps, a pool and a linear layer; `residual` adds values that
are rounded already, and has a gate; `shortcut` adds right behind a convolution. What they show:

onnxruntime, x86: by default it turns int8 into uint8 around a value that one op reads, and leaves
    it int8 where two do. Kernels take one of the two, so a convolution between such values stays
    in float. The session option `session.qdqisint8allowed=1` (the default on ARM) keeps int8
    throughout: row `onnxruntime int8`, where `plain` and `residual` multiply and add in integers,
    by kernels that are slower than float32's (`tests/bench/deploy_speed.py`).
Marches: bernoulli2 and bayes, and none, add inside the accumulator, without rounding in between:
    the fake-quant model has no fake-quant there, and the file no Q/DQ. onnxruntime has no integer
    kernel for that and keeps such a convolution in float (FusedConv: with the sum), the same
    numbers more slowly; OpenVINO has one. Relu, Clip and ReduceMean of rounded values stay in float
    in each. The march `onnxruntime` rounds first, and its file has uint8 activations with clamps
    on integers: the default session multiplies and adds in integers too, with fast kernels.
    TensorRT takes no uint8: its rules are checked for the other marches alone.
OpenVINO: its default inference precision is bfloat16 on CPUs that have it (AVX512_BF16, AMX). A
    convolution in front of a sum then writes bfloat16, 8 bits of mantissa, where the file has
    float32, and results are steps away from the first sum on. Row `openvino f32` has
    INFERENCE_PRECISION_HINT=f32: the same integer kernels, and at most a step of difference.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tensorrt_rules import tensorrt_findings

from qatspec.export import export_qat_onnx
from qatspec.lower import lower
from tests.nets import conv_bn, settle

Ran = tuple[list[np.ndarray], Counter[str]]
#: kernels that mean a product in float: onnxruntime's ops, OpenVINO's layer:precision
FLOAT = {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul"} | {
    f"{layer}:{precision}"
    for layer in ("Convolution", "FullyConnected", "MatMul")
    for precision in ("f32", "f16", "bf16")
}


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
    """The same with residual sums behind clamps, and a gate."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = list(self.layers)
        x = parts[1](parts[0](x))
        x = parts[3](parts[2](x)) + x
        x = parts[6](parts[5](parts[4](x)))
        x = x + parts[8](parts[7](x))
        x = x * torch.sigmoid(x.mean((2, 3), keepdim=True))
        return parts[11](parts[10](parts[9](x)))


class Shortcut(Plain):
    """The same with residual sums right behind convolutions, one with a clamp behind it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = list(self.layers)
        x = parts[1](parts[0](x))
        x = parts[2](x) + x
        x = parts[6](parts[5](parts[4](x)))
        x = parts[8](parts[7](x) + x)
        return parts[11](parts[10](parts[9](x)))


NETS = {"plain": Plain, "residual": Residual, "shortcut": Shortcut}
MARCHES = ("generic", "bernoulli2", "bayes", "onnxruntime")


def in_onnxruntime(path: Path, x: np.ndarray, settings: dict[str, str]) -> Ran:
    import onnxruntime

    optimized = path.with_name("optimized.onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(optimized)
    for key, value in settings.items():
        options.add_session_config_entry(key, value)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: x})
    return found, Counter(node.op_type for node in onnx.load(optimized).graph.node)


def in_openvino(path: Path, x: np.ndarray, settings: dict[str, str]) -> Ran:
    import openvino

    compiled = openvino.Core().compile_model(path, "CPU", settings)
    found = compiled([x])
    kernels: Counter[str] = Counter()
    for op in compiled.get_runtime_model().get_ordered_ops():
        info = op.get_rt_info()
        kind, precision = (str(info[key].astype(str)) for key in ("layerType", "runtimePrecision"))
        if kind not in ("Const", "Input", "Output"):
            kernels[f"{kind}:{precision}"] += 1
    return [found[o] for o in compiled.outputs], kernels


#: the setting of each runtime in which it must agree; in onnxruntime it must be all integer, too
EXACT = ("onnxruntime int8", "openvino f32")
UINT8_EXACT = ("onnxruntime", *EXACT)
RUNTIMES: dict[str, Callable[[Path, np.ndarray], Ran]] = {
    "onnxruntime": partial(in_onnxruntime, settings={}),
    "onnxruntime int8": partial(in_onnxruntime, settings={"session.qdqisint8allowed": "1"}),
    "openvino": partial(in_openvino, settings={}),
    "openvino f32": partial(in_openvino, settings={"INFERENCE_PRECISION_HINT": "f32"}),
}


def compare(net: str, march: str, x: torch.Tensor) -> bool:
    """Print a row a runtime. Is it as it must be?"""
    torch.manual_seed(0)
    prepared = settle(
        NETS[net](), x, march=None if march == "generic" else march, quantize_output=True
    )
    with torch.no_grad():
        expected = prepared.model(x).numpy()
    step = float(lower(prepared, (x,)).outputs[0].scale.max())
    met = True
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "qat.onnx"
        export_qat_onnx(prepared, path, (x,))
        uint8 = march == "onnxruntime"
        rules = "not for uint8" if uint8 else tensorrt_findings(onnx.load(path)) or "kept"
        print(f"\n{net}, march {march}; TensorRT's rules: {rules}")
        for runtime, run in RUNTIMES.items():
            try:
                (found,), kernels = run(path, x.numpy())
            except ImportError:
                print(f"  {runtime:17} not installed")
                continue
            steps = np.abs(found - expected) / step
            floats = sum(count for kind, count in kernels.items() if kind in FLOAT)
            fused = net == "shortcut" and march != "onnxruntime" and "onnxruntime" in runtime
            if runtime in (UINT8_EXACT if uint8 else EXACT):
                met &= steps.max() < 1.01 and (floats == 0 or fused)
            print(
                f"  {runtime:17} largest {steps.max():.2f} steps, mean {steps.mean():.4f}; "
                f"products in float: {floats}"
            )
            print("    ", ", ".join(f"{kind} {count}" for kind, count in kernels.most_common()))
    return met


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--net", choices=NETS, action="append")
    parser.add_argument("--march", choices=MARCHES, action="append")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    x = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    met = [compare(net, march, x) for net in given.net or NETS for march in given.march or MARCHES]
    print("\nmet" if all(met) else "\nNOT met")
    sys.exit(not all(met))


if __name__ == "__main__":
    main()
