"""All forms of a net give the same numbers: float, fake-quant, integers and the QAT ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qatspec.api import OnnxRunner, Program, export_qat_onnx, lower, prepare, set_stage, to_onnx
from qatspec.graph.deploy import deploy
from qatspec.lower.pipeline import lower_layers
from qatspec.referee.interpreter import interpret_all
from tests.module_check import Layers
from tests.unit.export.test_qdq import run


def all_forms_agree(
    net: nn.Module,
    x: Tensor,
    folder: Path,
    *,
    noise: float,
    steps: float,
    onnx_steps: float | None = None,
    **options: Any,
) -> Program:
    """Hold float to the prepared model without fake-quants, integers and the QAT ONNX to the
    fake-quant model, the ONNX for another batch too.

    noise       the fake-quant model may differ from float by this share of the norm.
    steps       integers may differ from the fake-quant model by so many steps of the output.
    onnx_steps  the ONNX may; None: as many.
    options     of `prepare`.

    Returns the Program.
    """
    options = {"qconfig": "horizon_qat", "quantize_output": True, **options}
    prepared = prepare(net, (x,), **options)
    with torch.no_grad():  # fake-quants are off
        torch.testing.assert_close(prepared.model(x), expected := net(x), rtol=1e-4, atol=1e-5)
    set_stage(prepared, "qat")
    set_stage(prepared, "eval")
    fake = prepared.model(x).detach()
    assert (fake - expected).norm() < noise * expected.norm()
    program = lower(prepared, (x,))
    (real,) = program.dequantize(program.run(*program.quantize(x.numpy())))
    step = program.outputs[0].scale.max()
    assert abs(real - fake.numpy()).max() <= steps * step
    export_qat_onnx(prepared, folder / "q.onnx", (x,))
    for images in (x, torch.cat([x, x[:1]])):
        (found,) = run(folder / "q.onnx", images)
        fake = prepared.model(images).detach()
        assert abs(found - fake.numpy()).max() <= (onnx_steps or steps) * step
    return program


def each_layer_agrees(net: nn.Module, x: Tensor, folder: Path, **options: Any) -> Program:
    """As `all_forms_agree`, for functions that enlarge the difference of one step without a limit:
    each layer is held to its fake-quant for equal inputs, and the QAT ONNX to 90 % of the numbers.
    """
    options = {"qconfig": "horizon_qat", "quantize_output": True, **options}
    prepared = prepare(net, (x,), **options)
    with torch.no_grad():
        torch.testing.assert_close(prepared.model(x), net(x), rtol=1e-4, atol=1e-5)
    set_stage(prepared, "qat")
    set_stage(prepared, "eval")
    deployment = deploy(prepared, (x,))
    program, layers = lower_layers(prepared, (x,), deployment=deployment)
    integers = program.quantize(x.numpy())
    values = interpret_all(program, *integers)
    with torch.no_grad():
        Layers(deployment, layers, values).run(x)
    to_onnx(program, folder / "c.onnx")
    converted = OnnxRunner.load(folder / "c.onnx", threads=1).run(*integers)
    for port, a, b in zip(program.outputs, program.run(*integers), converted, strict=True):
        assert np.array_equal(a, values[port.name])
        assert np.array_equal(b, values[port.name])
    export_qat_onnx(prepared, folder / "q.onnx", (x,))
    step = program.outputs[0].scale.max()
    for images in (x, torch.cat([x, x[:1]])):
        (found,) = run(folder / "q.onnx", images)
        fake = prepared.model(images).detach().numpy()
        assert (abs(found - fake) <= 1.01 * step).mean() > 0.9
    return program
