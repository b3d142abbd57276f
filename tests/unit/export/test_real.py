"""A Program as Q/DQ: onnxruntime without optimizations gives integers one away at most a layer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from qatspec.api import qdq_feeds, qdq_integers, rounded_values, to_qdq_onnx
from qatspec.diag import DiagnosticError
from qatspec.export.real.emitter import WRITERS
from qatspec.kinds import KINDS
from qatspec.lower import lower
from tests.nets import check_onnx
from tests.unit.export.test_float_ops import CASES, Op
from tests.unit.export.test_uint8 import CLAMPS, PADS

onnxruntime = pytest.importorskip("onnxruntime")


def test_every_kind_has_a_writer():
    assert set(WRITERS) == set(KINDS)


def opened(program, folder, unsigned, *, layers=False, batch=None):
    """What computes the outputs, and with `layers` the rounded values, of integers."""
    path = folder / "real.onnx"
    to_qdq_onnx(program, path, unsigned=unsigned, layers=layers, batch=batch)
    check_onnx(path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    layered = [program.values[name] for name in rounded_values(program) * layers]

    def run(ints):
        feeds = qdq_feeds(program.inputs, ints, unsigned=unsigned)
        arrays = session.run(None, dict(zip(names, feeds, strict=True)))
        return qdq_integers((*program.outputs, *layered), arrays)

    return run


def layers_of(program, folder, unsigned):
    run, names = opened(program, folder, unsigned, layers=True), rounded_values(program)
    return lambda ints: dict(zip(names, run(ints)[len(program.outputs) :], strict=True))


@pytest.mark.parametrize("unsigned", [True, False])
@pytest.mark.parametrize(
    "name", [*CASES, *(f"clamp {n}" for n in CLAMPS), *map("pad {}".format, PADS)]
)
def test_one_op(name, unsigned, settled, tmp_path):
    kind, _, rest = name.partition(" ")
    if kind in ("clamp", "pad") and name not in CASES:
        shape = (6, 8, 8)
        layer = nn.Sequential(nn.Conv2d(6, 6, 3), Op({**CLAMPS, **PADS}[rest]))
    else:
        shape, make = CASES[name]
        layer = make()
    x = torch.randn(2, *shape)
    try:
        program = lower(settled(nn.Sequential(layer), x, quantize_output=True), (x,))
    except DiagnosticError:
        pytest.skip("no integer form")
    run = opened(program, tmp_path, unsigned)
    for images in (x, 3 * torch.randn(3, *shape)):
        ints = program.quantize(images.numpy())
        for wanted, found in zip(program.run(*ints), run(ints), strict=True):
            assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
            assert np.abs(found.astype(np.int64) - wanted).max(initial=0) <= 2


def test_a_fixed_batch(settled, tmp_path):
    x = torch.randn(1, 3, 8, 8)
    program = lower(settled(nn.Sequential(nn.Conv2d(3, 4, 3)), x), (x,))
    to_qdq_onnx(program, tmp_path / "one.onnx", batch=1)
    graph = onnx.load(tmp_path / "one.onnx").graph
    for port in (*graph.input, *graph.output):
        assert port.type.tensor_type.shape.dim[0].dim_value == 1


def test_the_same_program_gives_the_same_bytes(everything, tmp_path):
    prepared, x = everything
    program = lower(prepared, (x,))
    for name in "ab":
        to_qdq_onnx(program, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_person_reads_how_pictures_are_fed(settled, tmp_path):
    x = torch.randn(1, 3, 8, 8)
    program = lower(settled(nn.Sequential(nn.Conv2d(3, 4, 3)), x), (x,))
    image = {"format": "bgr", "size": [8, 8], "mean": [1.0, 2.0, 3.0], "std": [4.0, 4.0, 4.0]}
    to_qdq_onnx(replace(program, image=image), tmp_path / "one.onnx")
    told = {p.key: p.value for p in onnx.load(tmp_path / "one.onnx").metadata_props}
    assert told["image"] == "bgr 8 x 8; (pixel - 1 2 3) / 4 4 4"
