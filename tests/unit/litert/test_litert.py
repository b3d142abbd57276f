"""The marches `litert` and `litert_reference`: LiteRT, which others wrote, gives the Program's
integers; what its file cannot hold is refused by name."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qatspec.api import (
    Artifact,
    DiagnosticError,
    Port,
    compile as compile_program,
    interpret,
    lower,
    prepare,
    set_stage,
)
from qatspec.ir import RANGE
from qatspec.program import Program, ProgramBuilder, forms
from qatspec.stages.foresight import march_findings
from qatspec.types import Arithmetic

MARCHES = ("litert", "litert_reference")
FORM = {"litert": "float32", "litert_reference": "double_high"}


@pytest.fixture(autouse=True)
def runtime():
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")


def program_of(module: nn.Module, *shape: int, march: str, **options) -> Program:
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm2d, nn.BatchNorm1d)):
            nn.init.uniform_(part.running_var, 0.5, 2.0)
    x = torch.randn(2, *shape)
    prepared = prepare(
        module.eval(),
        (x,),
        march=march,
        **{"qconfig": "horizon_qat", "prepare": "horizon", **options},
    )
    with torch.no_grad():
        set_stage(prepared, "calibration")
        prepared.model(x)
    set_stage(prepared, "qat")
    set_stage(prepared, "eval")
    return lower(prepared, (x,))


def with_every_layer(program: Program) -> Program:
    known = {port.name for port in program.outputs}
    values = [program.values[op.output] for op in program.ops if op.output not in known]
    ports = [
        Port(name=v.name, dtype=v.dtype, shape=v.shape, layout="N", scale=v.scale, axis=v.axis)
        for v in values
        if v.dtype in ("int8", "uint8") and v.scale is not None
    ]
    outputs = (*program.outputs, *ports)
    return replace(program, outputs=outputs, tree=list(range(len(outputs))))


def assert_equal(program: Program, march: str, seed: int = 0) -> None:
    """All 8-bit tensors on random integers over the whole range, batch 2."""
    rng = np.random.default_rng(seed)
    ints = [
        rng.integers(*RANGE[p.dtype], (2, *p.shape), endpoint=True).astype(p.dtype)
        for p in program.inputs
    ]
    for case in (program, with_every_layer(program)):
        artifact = Artifact.from_bytes(compile_program(case, march).to_bytes())
        for port, got, wanted in zip(
            case.outputs, artifact.run(*ints), interpret(case, *ints), strict=True
        ):
            np.testing.assert_array_equal(got, wanted, err_msg=port.name)


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(6, 6, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.squeeze(F.adaptive_avg_pool2d(x, 1)))


class Joins(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 1)

    def forward(self, x):
        a, b = F.relu(self.a(x)), self.b(x)
        y = torch.cat([a, b, x], 1)
        left, right = y.chunk(2, 1)
        return F.relu6(left + right), F.pad(a, (1, 0, 2, 1)), x[:, 1:5:2] + b[:, :2]


class Shapes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.last = nn.Linear(9, 5), nn.Linear(5, 7)

    def forward(self, x):
        y = F.relu(self.fc(x.flatten(2)))
        z = self.last(y.transpose(1, 2).reshape(x.shape[0], -1, 5))
        return z, x.permute(0, 2, 3, 1).reshape(x.shape[0], -1), y.mean(1), y.mean(2)


class Call(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


ROW = torch.linspace(0.1, 1.2, 9)
CONVS = {
    "same": nn.Conv2d(6, 8, 3, padding=1),
    "stride": nn.Conv2d(6, 8, 3, 2, 1),
    "valid": nn.Conv2d(6, 8, (2, 3), (1, 2)),
    "dilated": nn.Conv2d(6, 8, 3, padding=2, dilation=2),
    "depthwise": nn.Conv2d(6, 6, 5, padding=2, groups=6),
    "depthwise, multiplied": nn.Conv2d(6, 12, 3, 2, padding=1, groups=6),
    "grouped": nn.Conv2d(6, 9, 3, padding=1, groups=3),
    "without bias": nn.Conv2d(6, 8, 1, bias=False),
    "normed": nn.Sequential(nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
    "relu6": nn.Sequential(nn.Conv2d(6, 8, 3), nn.ReLU6()),
    "clamped": nn.Sequential(nn.Conv2d(6, 8, 3), nn.Hardtanh(-0.3, 0.4)),
    "transposed": nn.ConvTranspose2d(6, 4, 4, 2, 1),
    "channels times 0": nn.Sequential(
        nn.ConvTranspose2d(6, 4, 2, 2),
        Call(lambda x: x * torch.tensor([0.0, 1, 2, 0]).view(4, 1, 1)),
    ),
    "transposed, odd": nn.ConvTranspose2d(6, 4, 3, 2, 1, output_padding=1),
}
NETS = {
    "gate": Gate(),
    "joins": Joins(),
    "max pool": nn.MaxPool2d(3, 2, 1),
    "max pool behind relu": nn.Sequential(nn.Conv2d(6, 4, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
    "average pool": nn.AvgPool2d(2),
    "average pool, padded": nn.AvgPool2d(3, 2, 1),
    "global pool": nn.AdaptiveAvgPool2d(1),
    "nearest": nn.Upsample(scale_factor=2),
    "bilinear": nn.Upsample(scale_factor=4, mode="bilinear"),
    "bilinear, aligned": nn.Upsample(size=(17, 17), mode="bilinear", align_corners=True),
    "swish": nn.Sequential(nn.Conv2d(6, 4, 1), nn.Hardswish()),
    "factor": Call(lambda x: x * 0.3),
    "factors": Call(lambda x: x * torch.tensor([0.3, 0.5, 0.7, 0.2, 1.1, 2.0]).view(1, 6, 1, 1)),
    "factors of rows": Call(lambda x: F.hardtanh(x * ROW.view(1, 1, 9, 1), -0.3, 0.4)),
    "factors of columns, some 0": Call(lambda x: x * F.relu(ROW - 0.5)),
    "factors of columns of both signs": Call(lambda x: x * (ROW - 0.5)),
    "factors of places": Call(lambda x: x.flatten(1).unflatten(1, (54, 9)) * ROW),
    "factors of channels, some 0": Call(
        lambda x: x * torch.tensor([0.0, 0.5, 0.0, 0.2, 1.1, 2.0]).view(1, 6, 1, 1)
    ),
    "factors of pixels": Call(lambda x: x * (ROW.view(9, 1) - ROW)),
    "largest": Call(lambda x: x.amax((2, 3))),
    "gate with a factor": Call(lambda x: x * (F.relu6(x + 3.0) * (1 / 6))),
    "factor in front of a convolution": nn.Sequential(Call(lambda x: x * 0.3), nn.Conv2d(6, 4, 3)),
    "negative": Call(lambda x: -x),
    "difference": Call(lambda x: x - F.max_pool2d(x, 3, 1, 1)),
    "difference of rows": Call(lambda x: 1.5 * x.flatten(1) - x.flatten(1).flip(1)),
    "scaled sum": Call(lambda x: x + 0.1 * F.max_pool2d(x, 3, 1, 1)),
    "tiny summand": Call(lambda x: x + 1e-4 * F.avg_pool2d(x, 3, 1, 1)),
    "three": Call(lambda x: x + F.max_pool2d(x, 3, 1, 1) + F.avg_pool2d(x, 3, 1, 1)),
    "prelu": nn.PReLU(6),
    "one prelu": nn.PReLU(),
    "average of the inside": nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "place": nn.Sequential(nn.Conv2d(6, 5, 1), Call(lambda x: x.argmax(1))),
    "place of a row": nn.Sequential(nn.Conv2d(6, 5, 1), Call(lambda x: x.argmax(2, keepdim=True))),
    "norm": nn.Sequential(nn.Conv2d(6, 6, 1), nn.ReLU(), nn.BatchNorm2d(6)),
}


@pytest.mark.parametrize("march", MARCHES)
@pytest.mark.parametrize("name", CONVS)
def test_convolutions(name, march):
    assert_equal(program_of(CONVS[name], 6, 9, 9, march=march), march)


@pytest.mark.parametrize("march", MARCHES)
@pytest.mark.parametrize("name", NETS)
def test_other_ops(name, march):
    assert_equal(program_of(NETS[name], 6, 9, 9, march=march), march)


@pytest.mark.parametrize("march", MARCHES)
def test_shapes(march):
    assert_equal(program_of(Shapes(), 6, 3, 3, march=march), march)


VOLUMES = {
    "volume": nn.Conv3d(2, 4, 3, padding=1),
    "average of a volume": nn.AvgPool3d(2),
    "row": nn.Conv1d(2, 4, 3, padding=1),
}


@pytest.mark.parametrize("march", MARCHES)
@pytest.mark.parametrize("name", VOLUMES)
def test_one_and_three_dims(name, march):
    shape = (2, 7) if name == "row" else (2, 4, 5, 6)
    assert_equal(program_of(VOLUMES[name], *shape, march=march), march)


class Scaled(nn.Module):
    """Sums of a linear layer, times a number for each row: not for each of its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 5)

    def forward(self, x):
        return self.fc(x) * torch.tensor([0.2, 0.4, 0.6, 0.8, 1.0]).view(1, 5, 1)


@pytest.mark.parametrize("march", MARCHES)
def test_factors_along_another_dim_than_the_channels(march):
    """They are refused, or equal: never taken for factors of channels of the same number."""
    program = program_of(Scaled(), 5, 5, march=march)
    try:
        assert_equal(program, march)
    except DiagnosticError as error:
        assert {d.code for d in error.diagnostics} == {"QS801"}


@pytest.mark.parametrize("march", MARCHES)
def test_unsigned_activations(march):
    net = nn.Sequential(
        nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1, groups=8), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(8, 4, 1),
    )  # fmt: skip
    program = program_of(net, 6, 9, 9, march=march, qconfig="onnxruntime_qat")
    assert "uint8" in {value.dtype for value in program.values.values()}
    assert_equal(program, march)


# -- the last bit ----------------------------------------------------------------------------------


def near_ties(march: str, seed: int) -> Program:
    """Convolutions of zeros whose biases are sums next to a half of the result's step."""
    rng = np.random.default_rng(seed)
    form, channels = FORM[march], 512
    sx, sy = (np.float32(2.0 ** rng.uniform(-8, 0)) for _ in range(2))
    sw = (sy / sx * 2.0 ** rng.uniform(-22, -14, channels)).astype(np.float32)
    builder = ProgramBuilder("ties", march, Arithmetic(form=form))
    x = builder.input("x", "int8", (1, 1, 1), float(sx))
    real = float(sx) * sw.astype(np.float64) / float(sy)
    halves = rng.integers(-120, 120, channels) + 0.5
    bias = np.rint(halves / real) + rng.integers(-1, 2, channels)
    w = builder.const("w", "int8", np.zeros((channels, 1, 1, 1)))
    b = builder.const("b", "int32", bias)
    acc = builder.emit(
        "conv", [x, w, b], name="acc", stride=(1, 1), padding=(0,) * 4, dilation=(1, 1), groups=1
    )
    m, shift = forms.float32(sx * sw / sy) if form == "float32" else forms.double_high(real)
    names = [builder.const("m", "int64", m), builder.const("s", "int64", shift)]
    y = builder.emit(
        "requant", [acc, *names], name="y", scale=float(sy), dtype="int8", axis=1, form=form,
        rounding="half_even" if form == "float32" else "half_up", low=-128, high=127,
    )  # fmt: skip
    return builder.finish([y])


@pytest.mark.parametrize("march", MARCHES)
def test_sums_next_to_a_half(march):
    for seed in range(6):
        assert_equal(near_ties(march, seed), march)


def two_tensors(march: str, kind: str, seed: int) -> Program:
    """The sum or the product of every pair of integers, on scales from far apart to near."""
    rng = np.random.default_rng(seed)
    a, b = (np.float32(2.0 ** rng.uniform(-6, 0)) for _ in range(2))
    builder = ProgramBuilder("pairs", march, Arithmetic(form=FORM[march]))
    x = builder.input("x", "int8", (256,), float(a))
    y = builder.input("y", "int8", (256,), float(b))
    attrs = {"dtype": "int8", "axis": 1, "rounding": "half_up", "low": -128, "high": 127}
    if kind == "mul":
        out = np.float32(a * b * rng.uniform(20, 200))
        x = builder.emit("mul", [x, y], name="product")
        ratio = np.array([np.float32(a * b) / out])
        if march == "litert":
            m, shift = forms.float32(ratio)
            attrs["rounding"] = "half_even"
        else:
            m, shift = forms.double_high(ratio.astype(np.float64))
        operands, ms, attrs["form"] = [x], [m], FORM[march]
    else:
        out = np.float32(max(a, b) * 2.0 ** rng.uniform(-1, 3))
        scales, operands = [float(a), float(b)], [x, y]
        if march == "litert":
            ms, shift = forms.float32_sum(scales, float(out))
        else:
            ms, shift, more = forms.double_high_sum(scales, float(out))
            attrs |= {"form": FORM[march], **more}
    names = [builder.const("m", "int64", m) for m in ms]
    names.append(builder.const("s", "int64", shift))
    z = builder.emit("requant", [*operands, *names], name="z", scale=float(out), **attrs)
    return builder.finish([z])


@pytest.mark.parametrize("march", MARCHES)
@pytest.mark.parametrize("kind", ["add", "mul"])
def test_every_pair_of_integers(kind, march):
    pairs = np.arange(-128, 128, dtype=np.int8)
    for seed in range(4):
        program = two_tensors(march, kind, seed)
        artifact = compile_program(program, march)
        ints = [np.stack([np.roll(pairs, i) for i in range(256)]), np.tile(pairs, (256, 1))]
        got, wanted = artifact.run(*ints)[0], interpret(program, *ints)[0]
        np.testing.assert_array_equal(got, wanted)


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("march", MARCHES)
def test_int32_tails_are_refused_with_a_fix_that_works(march):
    net = nn.Sequential(nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))
    program = program_of(net, 6, 9, 9, march=march, quantize_output=False)
    with pytest.raises(DiagnosticError) as caught:
        compile_program(program, march)
    (found,) = caught.value.diagnostics
    assert found.code == "QS801" and "int32 sums are an output" in found.message
    assert "quantize_output: true" in found.help
    assert_equal(program_of(net, 6, 9, 9, march=march, quantize_output=True), march)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.Softmax(1), "has no exp_below_max"),
        (nn.MaxPool2d(3, 1, dilation=2), "max pool has no dilation"),
        (nn.ConvTranspose2d(6, 6, 2, 2, groups=6), "has no groups"),
        (nn.Upsample(size=(13, 13), mode="bicubic"), "int16"),
        (nn.LayerNorm([6, 9, 9]), "has no standardize"),
    ],
)
def test_what_the_file_cannot_hold_is_named(module, words):
    program = program_of(module, 6, 9, 9, march="litert")
    with pytest.raises(DiagnosticError, match=words) as caught:
        compile_program(program, "litert")
    assert {d.code for d in caught.value.diagnostics} == {"QS801"}


def test_a_program_of_another_arithmetic_is_refused():
    program = program_of(nn.Conv2d(6, 8, 3), 6, 9, 9, march="bayes")
    with pytest.raises(DiagnosticError, match="form single: litert has float32"):
        compile_program(program, "litert")


def test_without_the_runtime(monkeypatch):
    program = program_of(nn.Conv2d(6, 8, 3), 6, 9, 9, march="litert")
    for name in [n for n in sys.modules if n.split(".")[0] == "ai_edge_litert"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(DiagnosticError, match="not installed") as caught:
        compile_program(program, "litert")
    assert caught.value.diagnostics[0].code == "QS804"


def test_a_file_that_is_none_is_refused():
    artifact = compile_program(program_of(nn.Conv2d(6, 8, 3), 6, 9, 9, march="litert"), "litert")
    x = np.zeros((1, 6, 9, 9), np.int8)
    for sections in ({}, {"model.tflite": b"no such file"}):
        with pytest.raises(DiagnosticError) as caught:
            replace(artifact, sections=sections).run(x)
        assert caught.value.diagnostics[0].code == "QS811"


@pytest.mark.parametrize("march", MARCHES)
def test_an_int32_tail_is_told_before_training(march):
    """What `check` asks, on one random batch; the fix in the message ends it."""
    net = nn.Sequential(nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    for quantize_output in (False, True):
        prepared = prepare(
            net, (torch.zeros(1, 6, 9, 9),), qconfig="horizon_qat", prepare="horizon", march=march,
            quantize_output=quantize_output,
        )  # fmt: skip
        found = march_findings(prepared, march)
        assert [d.code for d in found] == ([] if quantize_output else ["QS801"])
        assert all("quantize_output: true" in d.help for d in found)
