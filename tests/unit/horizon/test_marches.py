"""bernoulli2 and bayes, through the registry as a spec reaches them."""

import json

import numpy as np
import pytest

from qatspec.api import (
    Artifact,
    DiagnosticError,
    compile as compile_program,
    interpret,
    perf,
    registry,
)
from qatspec.ir import Provenance
from qatspec.kinds import KINDS
from qatspec.lowering.segments import in_segments
from qatspec.program import Program, ProgramBuilder

MARCHES = ["bernoulli2", "bayes"]


def conv_net(
    channels: int = 8,
    out: int = 8,
    kernel: int = 3,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    dtype: str = "int8",
    weights: str = "int8",
    result: str = "int8",
    size: int = 20,
) -> Program:
    """One convolution and its requantization."""
    rng = np.random.default_rng(0)
    builder = ProgramBuilder("conv_net")
    x = builder.input("image", dtype, (channels, size, size), 1 / 128)
    weight = rng.integers(-8, 8, (out, channels // groups, kernel, kernel))
    origin = Provenance(module="stem.conv", source="net.py:7", rule="/qconfig/object_type/0")
    sums = builder.emit(
        "conv",
        [x, builder.const("w", weights, weight)],
        name="conv",
        origin=origin,
        stride=(stride, stride),
        padding=(dilation * (kernel // 2),) * 4,
        dilation=(dilation, dilation),
        groups=groups,
    )
    scale = builder.const("m", "int64", rng.integers(1000, 30000, out))
    shift = builder.const("s", "int64", np.full(out, 22))
    small = builder.emit(
        "requant",
        [sums, scale, shift],
        name="y",
        scale=0.1,
        dtype=result,
        axis=1,
        rounding="half_up",
        low=-128,
        high=127,
    )
    return builder.finish([small])


@pytest.mark.parametrize("march", MARCHES)
@pytest.mark.parametrize("opt", ["O0", "O3"])
def test_a_bin_runs_by_itself(march, opt, tmp_path):
    program = conv_net()
    file = tmp_path / "net.bin"
    compile_program(program, march, opt=opt, verify=True).save(file)
    loaded = Artifact.load(file)
    assert loaded.march == march
    image = np.random.default_rng(1).normal(size=(3, 8, 20, 20)).astype(np.float32)
    ints = loaded.quantize(image)
    expected = interpret(program, *program.quantize(image))
    assert all(np.array_equal(a, b) for a, b in zip(loaded.run(*ints), expected, strict=True))


@pytest.mark.parametrize(
    "march,options,words",
    [
        ("bernoulli2", {"kernel": 9}, "kernel 9x9 is above 7"),
        ("bernoulli2", {"dilation": 3}, "dilation 3x3 is not a power of two"),
        ("bernoulli2", {"dtype": "int16"}, "conv of int16: bernoulli2 takes int8"),
        ("bernoulli2", {"weights": "int4"}, "conv with int4 weights: bernoulli2 takes int8"),
        ("bernoulli2", {"channels": 4800, "size": 2, "kernel": 1}, "4800 is above 4096"),
        ("bayes", {"kernel": 33, "size": 40}, "kernel 33x33 is above 31"),
        ("bayes", {"dilation": 17, "size": 40}, "dilation 17x17 is above 16"),
        ("bayes", {"dilation": 2, "stride": 2}, "stride with dilation 2x2 is above 1"),
    ],
)
def test_what_the_public_tables_rule_out_is_refused(march, options, words):
    program = conv_net(**options)
    record = registry().march(march)
    answer = record.supports(program.ops[0], program)
    assert not answer.ok
    assert words in answer.reason
    with pytest.raises(DiagnosticError) as caught:
        compile_program(program, march)
    (found,) = caught.value.diagnostics
    assert found.code == "QS801"
    assert "stem.conv" in found.message and words in found.message
    assert found.at == "/qconfig/object_type/0"


def test_bernoulli2_gives_no_16_bits():
    with pytest.raises(DiagnosticError, match="requant to int16: bernoulli2 gives int8"):
        compile_program(conv_net(result="int16"), "bernoulli2")
    assert compile_program(conv_net(result="int16"), "bayes").outputs[0].dtype == "int16"


@pytest.mark.parametrize("options", [{"kernel": 9}, {"dtype": "int16"}, {"dilation": 3}])
def test_bayes_runs_what_bernoulli2_refuses(options):
    assert compile_program(conv_net(**options), "bayes").march == "bayes"


@pytest.mark.parametrize("kind", ["lut", "exp_below_max"])
def test_bayes_holds_tables_over_16_bits_in_few_bytes(kind, tmp_path):
    """By its commands, with the referee's integers; a full table has 128 KiB."""
    rng = np.random.default_rng(0)
    builder = ProgramBuilder("curve")
    x = builder.input("x", "int16", (8, 6, 20), 1 / 4096)
    far = np.arange(65536.0) / 4096
    exact = 32767 * (np.exp(-far) if kind == "exp_below_max" else np.tanh(far - 8))
    entries, words = in_segments(exact, 8, 0.25)
    operands = (x, builder.const("t", "int32", entries), builder.const("w", "int32", words))
    attrs = {"axis": 1} if kind == "exp_below_max" else {}
    attrs["fraction_bits"] = 8
    y = builder.emit(kind, operands, name="y", scale=1 / 32767, dtype="int16", **attrs)
    program = builder.finish([y])
    made = compile_program(program, "bayes", opt="O2", verify=True)
    made.save(tmp_path / "net.bin")
    assert (tmp_path / "net.bin").stat().st_size < 20_000
    ints = rng.integers(-(1 << 15), 1 << 15, (2, 8, 6, 20)).astype(np.int16)
    (found,), (expected,) = made.run(ints), interpret(program, ints)
    assert np.array_equal(found, expected)


def test_perf_names_the_march_and_is_the_same_twice():
    artifact = compile_program(conv_net(), "bernoulli2")
    first, second = (json.dumps(perf(artifact)) for _ in range(2))
    assert first == second
    summary = perf(artifact)["summary"]
    assert summary["BPU march"] == "bernoulli2"
    assert summary["BPU PE number"] == 255


@pytest.mark.parametrize("march", MARCHES)
def test_two_cores_share_a_frame(march):
    one, two = (
        perf(compile_program(conv_net(64, 64, size=64), march, cores=n))["summary"] for n in (1, 2)
    )
    assert two["latency (ms)"] < one["latency (ms)"]


@pytest.mark.parametrize("march", MARCHES)
def test_capabilities_are_typed_and_say_what_is_fitted(march):
    capabilities = registry().march(march).capabilities
    assert capabilities.hardware.clock_mhz == 1000
    assert "onchip_bytes" in capabilities.hardware.fitted
    assert capabilities.max_lsb == {"resize_bilinear": 1, "sum_pool": 1}
    assert set(capabilities.ops) <= set(KINDS)


@pytest.mark.parametrize("chip,march", [("j5", "bayes"), ("xj3", "bernoulli2")])
def test_chip_names_lead_to_their_march(chip, march):
    with pytest.raises(DiagnosticError) as caught:
        registry().march(chip)
    assert march in str(caught.value.diagnostics[0])


@pytest.mark.parametrize("march", MARCHES)
def test_wrong_options(march):
    with pytest.raises(DiagnosticError, match="QS803"):
        compile_program(conv_net(), march, opt="O4")


NASH = {
    "nash_e": ("j6e", "s100", "RDK_S100"),
    "nash_m": ("j6m", "s100p"),
    "nash_p": ("j6p", "s600", "rdk_s600"),
}


@pytest.mark.parametrize("name", NASH)
def test_marches_without_printed_limits_are_experimental(name):
    """A chip's name leads to its march, which says that it is a sketch, and compiles."""
    march = registry().march(name)
    assert march.experimental and "experimental" in march.summary
    assert march.capabilities.hardware.accuracy.startswith("experimental")
    for chip in NASH[name]:
        with pytest.raises(DiagnosticError, match="QS309") as caught:
            registry().march(chip)
        assert name in (caught.value.diagnostics[0].help or "")
    program = conv_net()
    artifact = compile_program(program, name, verify=True)
    assert artifact.manifest["verified_frames"] == 1
    assert perf(artifact)["summary"]["latency error"] == march.capabilities.hardware.accuracy
    assert not registry().march("bayes").experimental
